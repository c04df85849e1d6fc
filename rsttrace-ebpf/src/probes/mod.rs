//! One file a hook, named after it. A new probe is a file here, and a row in the user side's table of probes.

mod inet_sock_set_state;
mod task_file;
mod tcp_destroy_sock;
mod tcp_receive_reset;
mod tcp_send_reset;
