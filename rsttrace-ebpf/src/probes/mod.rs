//! One file per hook, named after it. A new probe is a file here, and a row in the user side's table of probes.
//!
//! A program that is the hook's own has the hook's name. Others have names that differ from all others within the 15
//! characters that the kernel keeps: `_kp` and `_kret` for a kprobe or kretprobe where the first choice is fentry or fexit,
//! `_2arg` and `_3arg` for a tracepoint of an earlier kernel with so many arguments, `_bak1` and `_bak2` for backups
//! ([`recursion`](crate::recursion)).

mod forwarded;
mod inet_csk_accept;
mod inet_sock_set_state;
mod kfree_skb;
mod nf_send_reset;
mod report;
mod task_file;
mod tcp_destroy_sock;
mod tcp_init_transfer;
mod tcp_receive_reset;
mod tcp_reset;
mod tcp_send_reset;
mod tcp_v4_send_reset;
