//! One file a hook, named after it. A new probe is a file here, and a row in the user side's table of probes.

mod forwarded;
mod inet_csk_accept;
mod inet_sock_set_state;
mod kfree_skb;
mod nf_send_reset;
mod task_file;
mod tcp_destroy_sock;
mod tcp_init_transfer;
mod tcp_receive_reset;
mod tcp_reset;
mod tcp_send_reset;
mod tcp_v4_send_reset;
