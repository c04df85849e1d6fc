//! Table of the kernel fields that the probes read.
//!
//! A row has the name of the kernel side's global, the kernel's struct, and the path of members. The kernel side makes a
//! `.rodata` global of each row; the user side finds each offset in the running kernel's BTF and sets the global before the
//! programs are loaded. Offsets move with every kernel and every configuration; names do not.

/// Value of a global whose field the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Calls the macro `$callback` with all rows: `GLOBAL: "struct" "member.path" need, …`, where `need` is `required`
/// (without the field nothing can be traced), `optional` (records then lack a figure), `fallback` (what earlier kernels
/// have in place of the field of the row before) or `arch` (only some processor architectures have it).
#[macro_export]
macro_rules! for_each_field {
    ($callback:ident) => {
        $callback! {
            SKC_FAMILY: "sock_common" "skc_family" required,
            SKC_STATE: "sock_common" "skc_state" required,
            SKC_DADDR: "sock_common" "skc_daddr" required,
            SKC_RCV_SADDR: "sock_common" "skc_rcv_saddr" required,
            SKC_DPORT: "sock_common" "skc_dport" required,
            SKC_V6_DADDR: "sock_common" "skc_v6_daddr" optional,
            SKC_V6_RCV_SADDR: "sock_common" "skc_v6_rcv_saddr" optional,
            SKC_NET: "sock_common" "skc_net.net" required,
            SKC_COOKIE: "sock_common" "skc_cookie" optional,
            SKC_FLAGS: "sock_common" "skc_flags" required,
            SK_LOCK_OWNED: "sock" "sk_lock.owned" required,
            SK_PROTOCOL: "sock" "sk_protocol" required,
            SK_SHUTDOWN: "sock" "sk_shutdown" required,
            SK_SOCKET: "sock" "sk_socket" required,
            SK_CGROUP: "sock" "sk_cgrp_data.cgroup" optional,
            SK_CGROUP_WORD: "sock" "sk_cgrp_data.val" fallback,
            SK_LINGERTIME: "sock" "sk_lingertime" optional,
            SK_ACK_BACKLOG: "sock" "sk_ack_backlog" optional,
            SK_MAX_ACK_BACKLOG: "sock" "sk_max_ack_backlog" optional,
            INET_SPORT: "inet_sock" "inet_sport" required,
            ICSK_LRCVTIME: "inet_connection_sock" "icsk_ack.lrcvtime" optional,
            ICSK_USER_TIMEOUT: "inet_connection_sock" "icsk_user_timeout" optional,
            ICSK_PROBES_OUT: "inet_connection_sock" "icsk_probes_out" optional,
            TP_BYTES_SENT: "tcp_sock" "bytes_sent" optional,
            TP_BYTES_RETRANS: "tcp_sock" "bytes_retrans" optional,
            TP_BYTES_ACKED: "tcp_sock" "bytes_acked" optional,
            TP_BYTES_RECEIVED: "tcp_sock" "bytes_received" optional,
            TP_RCV_NXT: "tcp_sock" "rcv_nxt" required,
            TP_COPIED_SEQ: "tcp_sock" "copied_seq" required,
            TP_WRITE_SEQ: "tcp_sock" "write_seq" required,
            TP_SND_NXT: "tcp_sock" "snd_nxt" required,
            TP_SND_UNA: "tcp_sock" "snd_una" required,
            TP_SRTT_US: "tcp_sock" "srtt_us" optional,
            TP_TOTAL_RETRANS: "tcp_sock" "total_retrans" optional,
            TP_LSNDTIME: "tcp_sock" "lsndtime" optional,
            TP_RCV_TSTAMP: "tcp_sock" "rcv_tstamp" optional,
            TP_CHRONO_START: "tcp_sock" "chrono_start" optional,
            TP_CHRONO_TYPE: "tcp_sock" "chrono_type" optional,
            TP_TSORTED_SENT_QUEUE: "tcp_sock" "tsorted_sent_queue" optional,
            TW_SUBSTATE: "inet_timewait_sock" "tw_substate" optional,
            NET_INUM: "net" "ns.inum" required,
            NET_COOKIE: "net" "net_cookie" optional,
            CGROUP_KN: "cgroup" "kn" optional,
            KN_ID: "kernfs_node" "id" optional,
            SKB_HEAD: "sk_buff" "head" required,
            SKB_NETWORK_HEADER: "sk_buff" "network_header" required,
            SKB_TRANSPORT_HEADER: "sk_buff" "transport_header" required,
            SKB_DEV: "sk_buff" "dev" required,
            SKB_IIF: "sk_buff" "skb_iif" optional,
            SKB_DST: "sk_buff" "_skb_refdst" optional,
            SKB_PROTOCOL: "sk_buff" "protocol" optional,
            DST_DEV: "dst_entry" "dev" optional,
            DEV_NET: "net_device" "nd_net.net" required,
            TASK_TGID: "task_struct" "tgid" required,
            TASK_GROUP_LEADER: "task_struct" "group_leader" required,
            TASK_COMM: "task_struct" "comm" required,
            TASK_START_BOOTTIME: "task_struct" "start_boottime" required,
            TASK_FLAGS: "task_struct" "flags" optional,
            TASK_CRED: "task_struct" "cred" optional,
            TASK_MM: "task_struct" "mm" optional,
            MM_ARG_START: "mm_struct" "arg_start" optional,
            MM_ARG_END: "mm_struct" "arg_end" optional,
            CRED_UID: "cred" "uid" optional,
            SOCKET_SK: "socket" "sk" required,
            SOCKET_FILE: "socket" "file" optional,
            FILE_REF: "file" "f_ref.refcnt.counter" optional,
            FILE_COUNT: "file" "f_count.counter" fallback,
            FILE_INODE: "file" "f_inode" required,
            FILE_PRIVATE_DATA: "file" "private_data" required,
            INODE_MODE: "inode" "i_mode" required,
            REGS: "pt_regs" "regs" arch,
            REGS_DI: "pt_regs" "di" arch,
            REGS_SI: "pt_regs" "si" arch,
            REGS_DX: "pt_regs" "dx" arch,
            REGS_CX: "pt_regs" "cx" arch,
            REGS_AX: "pt_regs" "ax" arch,
        }
    };
}
