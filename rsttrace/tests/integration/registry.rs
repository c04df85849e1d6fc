//! Table of all scenarios.

use std::{
    cell::RefCell,
    io::{self, Write as _},
    panic,
    sync::{PoisonError, RwLock},
    thread,
};

use libtest_mimic::{Completion, Failed, Trial};

use crate::{
    chain,
    host::{self, Lack},
    scenarios::{
        aborts, after_close, authority, bad_input, belongs, blocks, cgroups, conntrack_lookups, cross_check, deploy,
        destroy, endings, endings_of_peers, exactly_once, faults, filters, flood, forwarded, functions, given_up,
        handed_over, hostile, idle, ignored, incidents, injected, joined_hosts, keepalive, limits, listener, long,
        lost, machine, mapped, mixed, name_service, names, namespaces, own_words, owners, privileges, programs,
        real_programs, receivers, refused, rejected, reuse, routed, sinks, snapshot, summary, timers, top_view,
        translated,
    },
    selection::{self, Selection},
    stage::{Stage, Transport},
};

/// One scenario.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    play: fn(&Stage),
    /// What this host lacks for the scenario.
    lack: fn() -> Option<Lack>,
    /// Whether the scenario runs only with `--ignored`.
    on_demand: bool,
    /// Whether no other scenario runs at the same time.
    is_alone: bool,
}

const fn row(name: &'static str, play: fn(&Stage)) -> Row {
    needing(|| None, name, play)
}

const fn needing(lack: fn() -> Option<Lack>, name: &'static str, play: fn(&Stage)) -> Row {
    Row { name, play, lack, on_demand: false, is_alone: false }
}

/// Scenario that runs in a virtual machine only, and with no other at the same time.
const fn alone(name: &'static str, play: fn(&Stage)) -> Row {
    Row { is_alone: true, ..needing(host::lacks_a_machine_of_its_own, name, play) }
}

/// Scenario that runs with no other at the same time.
const fn undisturbed(name: &'static str, play: fn(&Stage)) -> Row {
    Row { is_alone: true, ..row(name, play) }
}

/// Scenario that needs more than the host may have, and runs with no other at the same time.
const fn undisturbed_needing(lack: fn() -> Option<Lack>, name: &'static str, play: fn(&Stage)) -> Row {
    Row { is_alone: true, ..needing(lack, name, play) }
}

/// Scenario with nginx on a path with a delay, whose times leave no room for others at the same time.
const fn timed(name: &'static str, play: fn(&Stage)) -> Row {
    Row { is_alone: true, ..needing(|| chain::lack().or_else(|| host::lacks_program("nginx")), name, play) }
}

/// Scenario that needs resets without a socket, and runs with no other at the same time.
const fn flood(name: &'static str, play: fn(&Stage)) -> Row {
    Row { is_alone: true, ..needing(host::lacks_resets_without_socket, name, play) }
}

const fn on_demand(name: &'static str, play: fn(&Stage)) -> Row {
    Row { on_demand: true, ..row(name, play) }
}

const ROWS: &[Row] = &[
    row("refused::refused_client_is_known_v4", refused::refused_client_is_known_v4),
    row("refused::refused_client_is_known_v6", refused::refused_client_is_known_v6),
    row("aborts::linger_zero_sends_a_reset", aborts::linger_zero_sends_a_reset),
    row("aborts::linger_zero_sends_a_reset_v6", aborts::linger_zero_sends_a_reset_v6),
    row("aborts::close_with_unread_data_sends_a_reset", aborts::close_with_unread_data_sends_a_reset),
    row("aborts::killed_server_is_named", aborts::killed_server_is_named),
    row("aborts::disconnect_keeps_the_socket", aborts::disconnect_keeps_the_socket),
    row("after_close::time_wait_has_an_owner", after_close::time_wait_has_an_owner),
    row("after_close::orphan_in_fin_wait2_has_an_owner", after_close::orphan_in_fin_wait2_has_an_owner),
    row("after_close::orphan_in_fin_wait1_has_an_owner", after_close::orphan_in_fin_wait1_has_an_owner),
    row("after_close::server_shuts_down_during_an_upload", after_close::server_shuts_down_during_an_upload),
    row("after_close::received_filter_shows_the_clients_reset", after_close::received_filter_shows_the_clients_reset),
    row("after_close::sent_filter_shows_the_servers_reset", after_close::sent_filter_shows_the_servers_reset),
    row("listener::close_resets_waiting_connections", listener::close_resets_waiting_connections),
    row("listener::full_queue_refuses", listener::full_queue_refuses),
    row("listener::full_queue_resets_late_data", listener::full_queue_resets_late_data),
    needing(
        destroy::lack,
        "destroy::another_process_destroys_the_socket",
        destroy::another_process_destroys_the_socket,
    ),
    row("snapshot::older_connection_has_owners", snapshot::older_connection_has_owners),
    row("snapshot::older_listener_passes_on_its_owner", snapshot::older_listener_passes_on_its_owner),
    row(
        "snapshot::holder_of_an_accepted_connection_is_looked_up",
        snapshot::holder_of_an_accepted_connection_is_looked_up,
    ),
    row("namespaces::every_namespace_is_watched", namespaces::every_namespace_is_watched),
    row("namespaces::path_selects_a_namespace", namespaces::path_selects_a_namespace),
    // Another scenario could be given the number.
    undisturbed("namespaces::reused_number_does_not_match", namespaces::reused_number_does_not_match),
    row("namespaces::path_names_a_new_namespace", namespaces::path_names_a_new_namespace),
    row("namespaces::process_of_the_path_ends", namespaces::process_of_the_path_ends),
    row("namespaces::unused_number_is_reported", namespaces::unused_number_is_reported),
    row("limits::stack_limit_is_raised_or_refused", limits::stack_limit_is_raised_or_refused),
    row("limits::low_address_space_limit_is_refused", limits::low_address_space_limit_is_refused),
    needing(|| host::lacks_program("unshare"), "limits::user_namespace_is_refused", limits::user_namespace_is_refused),
    needing(faults::no_memory_controller, "limits::low_memory_limit_is_refused", limits::low_memory_limit_is_refused),
    row("bad_input::reader_of_ready_fd_is_gone", bad_input::reader_of_ready_fd_is_gone),
    row("mapped::dual_stack_listener_has_ipv4_records", mapped::dual_stack_listener_has_ipv4_records),
    row("mapped::ipv6_client_has_ipv4_records", mapped::ipv6_client_has_ipv4_records),
    row("exactly_once::twenty_three_resets_are_reported", exactly_once::twenty_three_resets_are_reported),
    row("mixed::kinds_alternate_in_one_thread", mixed::kinds_alternate_in_one_thread),
    row("mixed::several_threads_reset", mixed::several_threads_reset),
    row("mixed::received_filter_shows_all_received", mixed::received_filter_shows_all_received),
    row("mixed::sent_filter_shows_all_sent", mixed::sent_filter_shows_all_sent),
    row("mixed::matching_filters_show_all", mixed::matching_filters_show_all),
    row("mixed::losses_are_counted", mixed::losses_are_counted),
    row("reuse::socket_addresses_are_reused", reuse::socket_addresses_are_reused),
    row("reuse::process_id_is_reused", reuse::process_id_is_reused),
    needing(host::lacks_resets_without_socket, "reuse::client_port_is_reused", reuse::client_port_is_reused),
    needing(
        host::lacks_resets_without_socket,
        "reuse::late_data_open_no_connection",
        reuse::late_data_open_no_connection,
    ),
    row("belongs::record_has_program_and_user", belongs::record_has_program_and_user),
    row("belongs::process_dies_after_another_reset", belongs::process_dies_after_another_reset),
    row("belongs::process_dies_without_another_reset", belongs::process_dies_without_another_reset),
    needing(belongs::lack, "belongs::record_has_container_and_unit", belongs::record_has_container_and_unit),
    needing(
        belongs::lack,
        "belongs::owner_cgroup_precedes_socket_cgroup",
        belongs::owner_cgroup_precedes_socket_cgroup,
    ),
    needing(belongs::lack, "cgroups::any_bytes_name_a_cgroup", cgroups::any_bytes_name_a_cgroup),
    needing(belongs::lack, "cgroups::recreated_cgroup_matches", cgroups::recreated_cgroup_matches),
    needing(belongs::lack, "cgroups::missing_cgroup_is_awaited", cgroups::missing_cgroup_is_awaited),
    needing(names::lack, "names::pod_and_peer_have_names", names::pod_and_peer_have_names),
    needing(names::lack, "names::new_container_has_names", names::new_container_has_names),
    row("names::unreadable_names_are_reported", names::unreadable_names_are_reported),
    row("names::malformed_names_are_refused", names::malformed_names_are_refused),
    needing(belongs::lack, "hostile::names_are_escaped_in_every_format", hostile::names_are_escaped_in_every_format),
    row("handed_over::worker_owns_what_it_closes", handed_over::worker_owns_what_it_closes),
    row("handed_over::worker_owns_what_it_accepted", handed_over::worker_owns_what_it_accepted),
    row("handed_over::last_holder_is_the_actor", handed_over::last_holder_is_the_actor),
    row("handed_over::child_uses_what_its_parent_opened", handed_over::child_uses_what_its_parent_opened),
    row("handed_over::opener_is_alone", handed_over::opener_is_alone),
    row("owners::process_owns_what_its_threads_open", owners::process_owns_what_its_threads_open),
    needing(owners::no_io_uring, "owners::io_uring_accepts_for_a_process", owners::io_uring_accepts_for_a_process),
    row("owners::receiver_of_a_descriptor_owns_it", owners::receiver_of_a_descriptor_owns_it),
    row("owners::queued_descriptor_has_a_likely_owner", owners::queued_descriptor_has_a_likely_owner),
    row("owners::two_holders_share_a_connection", owners::two_holders_share_a_connection),
    row("owners::remaining_holder_owns_the_connection", owners::remaining_holder_owns_the_connection),
    row("owners::executed_program_owns_its_input", owners::executed_program_owns_its_input),
    row("owners::child_of_an_exited_opener_owns", owners::child_of_an_exited_opener_owns),
    row("owners::child_of_an_exited_opener_resets", owners::child_of_an_exited_opener_resets),
    row("owners::daemon_listens_and_forks", owners::daemon_listens_and_forks),
    row("owners::waiting_connection_belongs_to_its_listener", owners::waiting_connection_belongs_to_its_listener),
    row("owners::accepting_process_owns", owners::accepting_process_owns),
    row("owners::exited_owner_is_known", owners::exited_owner_is_known),
    row("owners::last_holder_owns_a_closed_socket", owners::last_holder_owns_a_closed_socket),
    row("owners::host_pid_is_reported", owners::host_pid_is_reported),
    row("owners::short_lived_processes_are_named", owners::short_lived_processes_are_named),
    row("owners::full_history_names_no_other_process", owners::full_history_names_no_other_process),
    row("incidents::both_ends_on_loopback", incidents::both_ends_on_loopback),
    needing(chain::lack, "incidents::both_ends_in_two_namespaces", incidents::both_ends_in_two_namespaces),
    needing(
        incidents::lack_of_translation,
        "incidents::both_ends_behind_a_translation",
        incidents::both_ends_behind_a_translation,
    ),
    needing(incidents::lack_of_bridge, "incidents::pods_on_a_bridge", incidents::pods_on_a_bridge),
    needing(chain::lack, "incidents::both_ends_of_a_refusal", incidents::both_ends_of_a_refusal),
    row("incidents::mirrored_ends_elsewhere", incidents::mirrored_ends_elsewhere),
    row("keepalive::keepalive_probes_time_out", keepalive::keepalive_probes_time_out),
    row("idle::request_meets_timeout", idle::request_meets_timeout),
    row("idle::unknown_idle_time_is_a_guess", idle::unknown_idle_time_is_a_guess),
    row("idle::lost_connection_is_not_a_timeout", idle::lost_connection_is_not_a_timeout),
    row("idle::killed_server_is_not_a_timeout", idle::killed_server_is_not_a_timeout),
    row("idle::slow_answer_after_a_timeout_is_a_guess", idle::slow_answer_after_a_timeout_is_a_guess),
    row("idle::late_request_is_a_reuse_at_both_ends", idle::late_request_is_a_reuse_at_both_ends),
    row("idle::middlebox_resets_an_idle_connection", idle::middlebox_resets_an_idle_connection),
    row("idle::waiting_is_not_idle", idle::waiting_is_not_idle),
    needing(
        || host::lacks_program("nft"),
        "idle::silences_that_break_have_a_limit",
        idle::silences_that_break_have_a_limit,
    ),
    row("idle::half_a_timeout_does_not_match", idle::half_a_timeout_does_not_match),
    row("endings_of_peers::client_does_not_wait", endings_of_peers::client_does_not_wait),
    row("endings_of_peers::answer_comes_too_late", endings_of_peers::answer_comes_too_late),
    row("endings_of_peers::client_resets_after_the_answer", endings_of_peers::client_resets_after_the_answer),
    row("endings_of_peers::server_answers_an_upload_early", endings_of_peers::server_answers_an_upload_early),
    row("endings_of_peers::fin_follows_data_in_flight", endings_of_peers::fin_follows_data_in_flight),
    row(
        "endings_of_peers::server_resets_a_half_closed_connection",
        endings_of_peers::server_resets_a_half_closed_connection,
    ),
    row("endings_of_peers::server_resets_after_our_close", endings_of_peers::server_resets_after_our_close),
    row("endings_of_peers::restart_is_recognised", endings_of_peers::restart_is_recognised),
    // The connections have to break within a tenth of a second.
    undisturbed(
        "endings_of_peers::killed_server_ends_all_connections",
        endings_of_peers::killed_server_ends_all_connections,
    ),
    row(
        "endings_of_peers::killed_server_is_named_for_all_connections",
        endings_of_peers::killed_server_is_named_for_all_connections,
    ),
    undisturbed("endings_of_peers::end_of_a_client_is_recognised", endings_of_peers::end_of_a_client_is_recognised),
    row("endings_of_peers::clients_time_out_together", endings_of_peers::clients_time_out_together),
    row("endings_of_peers::health_check_is_recognised", endings_of_peers::health_check_is_recognised),
    row("endings_of_peers::vanished_peer_has_no_socket", endings_of_peers::vanished_peer_has_no_socket),
    row("endings_of_peers::vanished_peer_listens_again", endings_of_peers::vanished_peer_listens_again),
    row("endings_of_peers::keepalive_probe_finds_no_socket", endings_of_peers::keepalive_probe_finds_no_socket),
    needing(
        host::lacks_resets_without_socket,
        "endings_of_peers::port_scan_is_recognised",
        endings_of_peers::port_scan_is_recognised,
    ),
    needing(
        || host::lacks_program("nft"),
        "endings_of_peers::middlebox_resets_first_data",
        endings_of_peers::middlebox_resets_first_data,
    ),
    row("timers::user_timeout_expires", timers::user_timeout_expires),
    row("timers::negative_linger2_resets_the_peer", timers::negative_linger2_resets_the_peer),
    row("own_words::doctor_reports_every_probe", own_words::doctor_reports_every_probe),
    row("own_words::programs_log_on_request", own_words::programs_log_on_request),
    row("filters::sent_hides_received", filters::sent_hides_received),
    row("filters::received_hides_sent", filters::received_hides_sent),
    row("filters::pid_selects_the_owner", filters::pid_selects_the_owner),
    row("filters::pid_is_repeatable", filters::pid_is_repeatable),
    row("filters::comm_selects_the_owner", filters::comm_selects_the_owner),
    row("filters::peer_selects_ipv4", filters::peer_selects_ipv4),
    row("filters::peer_selects_ipv6", filters::peer_selects_ipv6),
    row("filters::peer_prefixes_add_up", filters::peer_prefixes_add_up),
    row("filters::peer_port_selects_one_end", filters::peer_port_selects_one_end),
    row("filters::local_port_selects_one_end", filters::local_port_selects_one_end),
    row("filters::port_selects_either_end", filters::port_selects_either_end),
    row("filters::port_range_includes_its_ends", filters::port_range_includes_its_ends),
    row("filters::ipv4_hides_ipv6", filters::ipv4_hides_ipv6),
    row("filters::ipv6_hides_ipv4", filters::ipv6_hides_ipv4),
    row("filters::host_selects_peers_by_name", filters::host_selects_peers_by_name),
    row("filters::absent_process_is_awaited", filters::absent_process_is_awaited),
    row("summary::counters_of_another_namespace_agree", summary::counters_of_another_namespace_agree),
    row("summary::summaries_come_at_intervals", summary::summaries_come_at_intervals),
    flood("flood::resets_of_one_peer_are_counted", flood::resets_of_one_peer_are_counted),
    flood("flood::resets_of_many_peers_add_up", flood::resets_of_many_peers_add_up),
    flood("flood::stopped_reader_misses_nothing", flood::stopped_reader_misses_nothing),
    flood("flood::connections_are_not_displaced", flood::connections_are_not_displaced),
    Row {
        is_alone: true,
        ..needing(
            flood::no_steering,
            "flood::backup_program_handles_recursion",
            flood::backup_program_handles_recursion,
        )
    },
    needing(
        deploy::lacks_setpriv,
        "deploy::service_needs_only_its_capabilities",
        deploy::service_needs_only_its_capabilities,
    ),
    needing(deploy::lack, "deploy::programs_accept_their_files", deploy::programs_accept_their_files),
    needing(deploy::lack, "deploy::references_between_files_exist", deploy::references_between_files_exist),
    row("sinks::recording::replay_gives_the_live_records", sinks::recording::replay_gives_the_live_records),
    row("sinks::recording::killed_recorder_loses_nothing", sinks::recording::killed_recorder_loses_nothing),
    row("sinks::recording::recorder_goes_on_after_a_full_disk", sinks::recording::recorder_goes_on_after_a_full_disk),
    row("sinks::json_file::file_equals_stdout", sinks::json_file::file_equals_stdout),
    row(
        "sinks::report_at_end::report_has_the_numbers_of_the_run",
        sinks::report_at_end::report_has_the_numbers_of_the_run,
    ),
    needing(top_view::lack, "top_view::numbers_are_those_of_the_summary", top_view::numbers_are_those_of_the_summary),
    row("sinks::json_file::moved_file_is_reopened", sinks::json_file::moved_file_is_reopened),
    row("sinks::json_file::removed_file_is_created_again", sinks::json_file::removed_file_is_created_again),
    row("sinks::json_file::truncated_file_survives_a_full_disk", sinks::json_file::truncated_file_survives_a_full_disk),
    row("sinks::json_file::file_meets_its_size_limit", sinks::json_file::file_meets_its_size_limit),
    row("sinks::json_file::start_writes_no_file", sinks::json_file::start_writes_no_file),
    row("sinks::metrics::slow_clients_delay_no_answer", sinks::metrics::slow_clients_delay_no_answer),
    needing(receivers::no_journal, "sinks::journal_gets_every_field", sinks::journal_gets_every_field),
    needing(
        || host::lacks_runtime("prometheus").or_else(deploy::lack),
        "sinks::metrics::prometheus_gets_the_counts",
        sinks::metrics::prometheus_gets_the_counts,
    ),
    needing(
        || host::lacks_runtime("rsyslogd"),
        "sinks::rsyslog_parses_every_message",
        sinks::rsyslog_parses_every_message,
    ),
    needing(
        || host::lacks_runtime("rsyslogd"),
        "sinks::late_syslog_gets_every_record",
        sinks::late_syslog_gets_every_record,
    ),
    needing(receivers::no_tls, "sinks::syslog_tls_checks_the_certificate", sinks::syslog_tls_checks_the_certificate),
    needing(
        || receivers::no_tls().or_else(authority::lack),
        "sinks::syslog_tls_shows_a_certificate",
        sinks::syslog_tls_shows_a_certificate,
    ),
    needing(
        || host::lacks_runtime("prometheus").or_else(|| host::lacks_program("curl")).or_else(authority::lack),
        "sinks::metrics::prometheus_scrapes_with_tls_and_a_password",
        sinks::metrics::prometheus_scrapes_with_tls_and_a_password,
    ),
    needing(
        sinks::collectors::lack,
        "sinks::collectors::backend_gets_every_record_over_tls",
        sinks::collectors::backend_gets_every_record_over_tls,
    ),
    needing(
        sinks::collectors::lack,
        "sinks::collectors::wrong_certificates_are_refused",
        sinks::collectors::wrong_certificates_are_refused,
    ),
    needing(
        sinks::collectors::lack,
        "sinks::collectors::rotated_token_is_read_again",
        sinks::collectors::rotated_token_is_read_again,
    ),
    needing(
        receivers::no_collector,
        "sinks::collectors::token_is_read_before_the_switch",
        sinks::collectors::token_is_read_before_the_switch,
    ),
    needing(
        receivers::no_collector,
        "sinks::collectors::answers_follow_the_specification",
        sinks::collectors::answers_follow_the_specification,
    ),
    needing(
        sinks::collectors::lack,
        "sinks::collectors::proxy_of_the_environment_is_used",
        sinks::collectors::proxy_of_the_environment_is_used,
    ),
    needing(
        sinks::collectors::lack,
        "sinks::collectors::environment_names_the_endpoint",
        sinks::collectors::environment_names_the_endpoint,
    ),
    needing(
        sinks::collectors::lacks_rotel,
        "sinks::collectors::rotel_passes_every_record_on",
        sinks::collectors::rotel_passes_every_record_on,
    ),
    row("sinks::collectors::own_connections_are_left_out", sinks::collectors::own_connections_are_left_out),
    needing(
        receivers::no_collector,
        "sinks::late_collector_gets_every_record",
        sinks::late_collector_gets_every_record,
    ),
    needing(receivers::no_receivers, "sinks::each_sink_gets_every_record", sinks::each_sink_gets_every_record),
    row("sinks::failed_sink_harms_no_other", sinks::failed_sink_harms_no_other),
    on_demand("long::memory_does_not_grow", long::memory_does_not_grow),
    row("lost::every_reset_is_counted", lost::every_reset_is_counted),
    row("endings::count_ends_the_run", endings::count_ends_the_run),
    row("endings::duration_ends_the_run", endings::duration_ends_the_run),
    row("endings::sigterm_ends_the_run", endings::sigterm_ends_the_run),
    row("endings::closed_pipe_ends_the_run", endings::closed_pipe_ends_the_run),
    row("endings::full_device_fails_the_run", endings::full_device_fails_the_run),
    needing(blocks::lack, "blocks::last_line_of_a_burst_is_written_soon", blocks::last_line_of_a_burst_is_written_soon),
    needing(blocks::lack, "blocks::single_reset_is_written_immediately", blocks::single_reset_is_written_immediately),
    row("endings::stuck_reader_does_not_delay_the_end", endings::stuck_reader_does_not_delay_the_end),
    row("endings::stuck_reader_of_both_does_not_delay_the_end", endings::stuck_reader_of_both_does_not_delay_the_end),
    row("endings::missing_privileges_are_named", endings::missing_privileges_are_named),
    row("endings::bad_usage_is_refused", endings::bad_usage_is_refused),
    row("faults::killed_run_leaves_nothing_in_the_kernel", faults::killed_run_leaves_nothing_in_the_kernel),
    row("faults::killed_run_leaves_whole_lines", faults::killed_run_leaves_whole_lines),
    row("faults::full_disk_ends_the_run", faults::full_disk_ends_the_run),
    row("faults::exited_reader_ends_the_run", faults::exited_reader_ends_the_run),
    row("faults::closed_stdout_is_replaced", faults::closed_stdout_is_replaced),
    row("faults::low_descriptor_limit_is_reported", faults::low_descriptor_limit_is_reported),
    row("faults::descriptors_run_out", faults::descriptors_run_out),
    row("faults::hidepid_hides_nothing", faults::hidepid_hides_nothing),
    row("faults::hidepid_hides_details_without_ptrace", faults::hidepid_hides_details_without_ptrace),
    // Its sockets belong to the test process. A puppet that another scenario starts at the same time has a copy of each
    // until exec, may close it last, and would rightly be named.
    Row { is_alone: true, ..row("faults::namespaces_come_and_go", faults::namespaces_come_and_go) },
    row("faults::two_instances_report_the_same", faults::two_instances_report_the_same),
    row("faults::stopped_run_catches_up", faults::stopped_run_catches_up),
    row("faults::full_buffer_is_written_at_the_end", faults::full_buffer_is_written_at_the_end),
    needing(faults::no_memory_controller, "faults::memory_limit_is_enough", faults::memory_limit_is_enough),
    needing(
        name_service::lack,
        "name_service::module_is_loaded_before_the_sandbox",
        name_service::module_is_loaded_before_the_sandbox,
    ),
    row("privileges::every_start_gives_up_privileges", privileges::every_start_gives_up_privileges),
    row("privileges::attached_run_gives_up_privileges", privileges::attached_run_gives_up_privileges),
    row("privileges::user_option_changes_the_user", privileges::user_option_changes_the_user),
    row("privileges::three_capabilities_are_enough", privileges::three_capabilities_are_enough),
    row("privileges::readers_give_up_privileges", privileges::readers_give_up_privileges),
    row("privileges::forbidden_user_change_is_an_error", privileges::forbidden_user_change_is_an_error),
    row("cross_check::counters_and_wire_agree", cross_check::counters_and_wire_agree),
    Row { lack: host::lacks_a_second_processor, ..alone("machine::cpu_goes_offline", machine::cpu_goes_offline) },
    alone("machine::clock_is_set", machine::clock_is_set),
    needing(
        host::lacks_hooks_on_functions,
        "functions::fentry_and_kprobes_are_allowed",
        functions::fentry_and_kprobes_are_allowed,
    ),
    needing(
        joined_hosts::lack,
        "joined_hosts::recordings_tell_who_sent_a_reset",
        joined_hosts::recordings_tell_who_sent_a_reset,
    ),
    needing(joined_hosts::lack, "joined_hosts::own_output_rule_is_named", joined_hosts::own_output_rule_is_named),
    needing(chain::lack, "routed::reset_crosses_the_router_v4", routed::reset_crosses_the_router_v4),
    needing(chain::lack, "routed::reset_crosses_the_router_v6", routed::reset_crosses_the_router_v6),
    needing(injected::lack, "injected::forged_reset_is_recognised", injected::forged_reset_is_recognised),
    needing(injected::lack, "injected::genuine_reset_is_recognised", injected::genuine_reset_is_recognised),
    needing(ignored::lack, "ignored::each_ignored_reset_has_its_reason", ignored::each_ignored_reset_has_its_reason),
    needing(chain::lack, "ignored::ignored_resets_need_the_option", ignored::ignored_resets_need_the_option),
    needing(chain::lack, "forwarded::router_reports_forwarded_resets", forwarded::router_reports_forwarded_resets),
    needing(
        chain::lack,
        "forwarded::router_reports_forwarded_resets_v6",
        forwarded::router_reports_forwarded_resets_v6,
    ),
    needing(
        forwarded::lack_from_outside,
        "forwarded::router_is_watched_from_outside",
        forwarded::router_is_watched_from_outside,
    ),
    needing(rejected::lack, "rejected::input_rule_rejects_v4", rejected::input_rule_rejects_v4),
    needing(rejected::lack, "rejected::input_rule_rejects_v6", rejected::input_rule_rejects_v6),
    needing(rejected::lack_in_the_middle, "rejected::router_rule_rejects", rejected::router_rule_rejects),
    needing(rejected::lack_at_the_output, "rejected::output_rule_rejects", rejected::output_rule_rejects),
    needing(
        rejected::lack_at_the_output,
        "rejected::redirected_to_a_closed_port",
        rejected::redirected_to_a_closed_port,
    ),
    needing(
        conntrack_lookups::lack,
        "conntrack_lookups::local_translations_are_found",
        conntrack_lookups::local_translations_are_found,
    ),
    undisturbed_needing(
        conntrack_lookups::lack,
        "conntrack_lookups::record_has_the_server_behind_an_address",
        conntrack_lookups::record_has_the_server_behind_an_address,
    ),
    needing(
        conntrack_lookups::lack,
        "conntrack_lookups::router_translates_both_ends",
        conntrack_lookups::router_translates_both_ends,
    ),
    needing(
        conntrack_lookups::lack,
        "conntrack_lookups::refusal_leaves_no_entry",
        conntrack_lookups::refusal_leaves_no_entry,
    ),
    needing(
        conntrack_lookups::lack,
        "conntrack_lookups::helper_has_one_capability",
        conntrack_lookups::helper_has_one_capability,
    ),
    needing(
        conntrack_lookups::lack,
        "conntrack_lookups::ended_namespace_is_released",
        conntrack_lookups::ended_namespace_is_released,
    ),
    needing(|| host::lacks_program("curl"), "programs::curl_is_refused", programs::curl_is_refused),
    needing(|| host::lacks_program("python3"), "programs::python_aborts", programs::python_aborts),
    needing(|| host::lacks_program("nginx"), "programs::nginx_worker_resets", programs::nginx_worker_resets),
    needing(
        || host::lacks_program("apache2"),
        "real_programs::apache::prefork_children_own",
        real_programs::apache::prefork_children_own,
    ),
    needing(
        || host::lacks_program("haproxy"),
        "real_programs::gateway::backend_resets_haproxy",
        real_programs::gateway::backend_resets_haproxy,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::gateway::backend_resets_nginx",
        real_programs::gateway::backend_resets_nginx,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::gateway::nginx_is_late",
        real_programs::gateway::nginx_is_late,
    ),
    needing(
        || host::lacks_program("haproxy"),
        "real_programs::haproxy::worker_owns_every_connection",
        real_programs::haproxy::worker_owns_every_connection,
    ),
    needing(
        || host::lacks_program("python3"),
        "real_programs::inetd::manager_keeps_the_listener",
        real_programs::inetd::manager_keeps_the_listener,
    ),
    needing(
        || host::lacks_program("bash"),
        "real_programs::inetd::shell_connects",
        real_programs::inetd::shell_connects,
    ),
    needing(
        || host::lacks_program("systemd-socket-activate"),
        "real_programs::inetd::systemd_accepts",
        real_programs::inetd::systemd_accepts,
    ),
    needing(
        || host::lacks_program("systemd-socket-activate"),
        "real_programs::inetd::systemd_hands_over",
        real_programs::inetd::systemd_hands_over,
    ),
    needing(
        || host::lacks_program("xinetd"),
        "real_programs::inetd::xinetd_starts_a_shell",
        real_programs::inetd::xinetd_starts_a_shell,
    ),
    needing(
        || host::lacks_runtime("java"),
        "real_programs::jvm::java_process_owns",
        real_programs::jvm::java_process_owns,
    ),
    needing(
        real_programs::tls::lack,
        "real_programs::tls::closing_alerts_are_harmless",
        real_programs::tls::closing_alerts_are_harmless,
    ),
    undisturbed_needing(
        || real_programs::pools::REQUESTS_NGINX.lack(),
        "real_programs::pools::requests_meets_nginx",
        |stage| real_programs::pools::REQUESTS_NGINX.play(stage),
    ),
    undisturbed_needing(
        || real_programs::pools::NODE_HAPROXY.lack(),
        "real_programs::pools::node_meets_haproxy",
        |stage| real_programs::pools::NODE_HAPROXY.play(stage),
    ),
    undisturbed_needing(
        || real_programs::pools::AIOHTTP_GUNICORN.lack(),
        "real_programs::pools::aiohttp_meets_gunicorn",
        |stage| real_programs::pools::AIOHTTP_GUNICORN.play(stage),
    ),
    undisturbed_needing(
        || real_programs::pools::HTTPX_UVICORN.lack(),
        "real_programs::pools::httpx_meets_uvicorn",
        |stage| real_programs::pools::HTTPX_UVICORN.play(stage),
    ),
    undisturbed_needing(
        || real_programs::pools::JAVA_GUNICORN.lack(),
        "real_programs::pools::java_meets_gunicorn",
        |stage| real_programs::pools::JAVA_GUNICORN.play(stage),
    ),
    undisturbed_needing(
        || real_programs::pools::REQUESTS_NODE.lack(),
        "real_programs::pools::requests_meets_node",
        |stage| real_programs::pools::REQUESTS_NODE.play(stage),
    ),
    undisturbed_needing(
        || real_programs::pools::HTTPX_NGINX.lack(),
        "real_programs::pools::httpx_meets_nginx",
        |stage| real_programs::pools::HTTPX_NGINX.play(stage),
    ),
    undisturbed_needing(
        || real_programs::pools::AIOHTTP_NGINX.lack(),
        "real_programs::pools::aiohttp_meets_nginx",
        |stage| real_programs::pools::AIOHTTP_NGINX.play(stage),
    ),
    undisturbed_needing(
        real_programs::pools::apache_lack,
        "real_programs::pools::apache_lingers",
        real_programs::pools::apache_lingers,
    ),
    undisturbed_needing(
        real_programs::pools::gateway_lack,
        "real_programs::pools::gateway_answers_502",
        real_programs::pools::gateway_answers_502,
    ),
    undisturbed_needing(
        real_programs::pools::blocking_client_lack,
        "real_programs::pools::blocking_client_does_not_look",
        real_programs::pools::blocking_client_does_not_look,
    ),
    undisturbed_needing(
        real_programs::pools::unread_lack,
        "real_programs::pools::node_closes_with_a_request_unread",
        real_programs::pools::node_closes_with_a_request_unread,
    ),
    undisturbed_needing(
        real_programs::stopped::lack,
        "real_programs::stopped::slow_server_is_given_up",
        real_programs::stopped::slow_server_is_given_up,
    ),
    undisturbed_needing(
        real_programs::stopped::lack,
        "real_programs::stopped::haproxy_gives_a_slow_server_up",
        real_programs::stopped::haproxy_gives_a_slow_server_up,
    ),
    undisturbed_needing(
        real_programs::stopped::lack,
        "real_programs::stopped::downloads_are_stopped",
        real_programs::stopped::downloads_are_stopped,
    ),
    undisturbed_needing(
        real_programs::stopped::lack,
        "real_programs::stopped::streams_are_left",
        real_programs::stopped::streams_are_left,
    ),
    undisturbed_needing(
        real_programs::stopped::lack,
        "real_programs::stopped::haproxy_closes_after_each_answer",
        real_programs::stopped::haproxy_closes_after_each_answer,
    ),
    undisturbed_needing(
        real_programs::uploads::lack,
        "real_programs::uploads::gunicorn_answers_early",
        real_programs::uploads::gunicorn_answers_early,
    ),
    undisturbed_needing(
        real_programs::uploads::lack,
        "real_programs::uploads::nginx_hangs_up",
        real_programs::uploads::nginx_hangs_up,
    ),
    undisturbed_needing(
        real_programs::uploads::lack,
        "real_programs::uploads::worker_is_killed",
        real_programs::uploads::worker_is_killed,
    ),
    undisturbed_needing(
        real_programs::uploads::lack,
        "real_programs::uploads::process_exits",
        real_programs::uploads::process_exits,
    ),
    undisturbed_needing(
        real_programs::alerts::lack,
        "real_programs::alerts::nginx_and_its_clients_close",
        real_programs::alerts::nginx_and_its_clients_close,
    ),
    undisturbed_needing(
        real_programs::alerts::lack,
        "real_programs::alerts::haproxy_and_its_clients_close",
        real_programs::alerts::haproxy_and_its_clients_close,
    ),
    Row {
        is_alone: true,
        ..needing(
            real_programs::ordinary::lack,
            "real_programs::ordinary::nothing_is_wrong",
            real_programs::ordinary::nothing_is_wrong,
        )
    },
    Row {
        is_alone: true,
        ..needing(
            real_programs::ordinary::lack,
            "real_programs::ordinary::one_fault_is_named_first",
            real_programs::ordinary::one_fault_is_named_first,
        )
    },
    timed("real_programs::reload::request_crosses_a_reload", real_programs::reload::request_crosses_a_reload),
    timed(
        "real_programs::reload::requests_cross_the_end_of_killed_workers",
        real_programs::reload::requests_cross_the_end_of_killed_workers,
    ),
    timed(
        "real_programs::reload::request_after_a_silence_crosses_a_reload",
        real_programs::reload::request_after_a_silence_crosses_a_reload,
    ),
    needing(
        || host::lacks_runtime("socat"),
        "real_programs::reload::forked_process_is_no_reload",
        real_programs::reload::forked_process_is_no_reload,
    ),
    timed(
        "real_programs::race::event_loop_meets_the_idle_timeout",
        real_programs::race::event_loop_meets_the_idle_timeout,
    ),
    timed(
        "real_programs::race::blocking_client_meets_the_idle_timeout",
        real_programs::race::blocking_client_meets_the_idle_timeout,
    ),
    timed(
        "real_programs::race::slow_path_meets_the_idle_timeout",
        real_programs::race::slow_path_meets_the_idle_timeout,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::nginx::older_workers_are_known",
        real_programs::nginx::older_workers_are_known,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::nginx::killed_worker_is_named",
        real_programs::nginx::killed_worker_is_named,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::nginx::reuseport_workers_own",
        real_programs::nginx::reuseport_workers_own,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::nginx::workers_own_what_they_accept",
        real_programs::nginx::workers_own_what_they_accept,
    ),
    needing(
        || host::lacks_runtime("node"),
        "real_programs::node::single_process_owns",
        real_programs::node::single_process_owns,
    ),
    needing(
        || host::lacks_runtime("node"),
        "real_programs::node::cluster_workers_own",
        real_programs::node::cluster_workers_own,
    ),
    needing(
        || host::lacks_program("python3"),
        "real_programs::python::forked_child_owns",
        real_programs::python::forked_child_owns,
    ),
    needing(
        || host::lacks_program("gunicorn"),
        "real_programs::python::gunicorn_workers_own",
        real_programs::python::gunicorn_workers_own,
    ),
    needing(
        || host::lacks_program("python3"),
        "real_programs::python::receiving_process_owns",
        real_programs::python::receiving_process_owns,
    ),
    needing(
        || host::lacks_program("python3"),
        "real_programs::python::preforked_workers_own",
        real_programs::python::preforked_workers_own,
    ),
    needing(
        || host::lacks_program("python3"),
        "real_programs::python::older_preforked_workers_are_known",
        real_programs::python::older_preforked_workers_are_known,
    ),
    needing(
        || host::lacks_program("python3"),
        "real_programs::python::reuseport_processes_own",
        real_programs::python::reuseport_processes_own,
    ),
    needing(
        || host::lacks_program("python3"),
        "real_programs::python::process_owns_what_its_threads_serve",
        real_programs::python::process_owns_what_its_threads_serve,
    ),
    needing(
        || host::lacks_program("redis-server"),
        "real_programs::redis::redis_kills_a_client",
        real_programs::redis::redis_kills_a_client,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::timeouts::nginx_keepalive_expires",
        real_programs::timeouts::nginx_keepalive_expires,
    ),
    needing(
        || host::lacks_program("haproxy"),
        "real_programs::timeouts::haproxy_keepalive_expires",
        real_programs::timeouts::haproxy_keepalive_expires,
    ),
    needing(
        || host::lacks_runtime("node"),
        "real_programs::timeouts::node_keepalive_expires",
        real_programs::timeouts::node_keepalive_expires,
    ),
    needing(
        || host::lacks_program("gunicorn"),
        "real_programs::timeouts::gunicorn_keepalive_expires",
        real_programs::timeouts::gunicorn_keepalive_expires,
    ),
    needing(
        || host::lacks_program("redis-server"),
        "real_programs::timeouts::redis_timeout_expires",
        real_programs::timeouts::redis_timeout_expires,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::timeouts::nginx_resets_a_slow_client",
        real_programs::timeouts::nginx_resets_a_slow_client,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::timeouts::nginx_does_not_linger",
        real_programs::timeouts::nginx_does_not_linger,
    ),
    needing(given_up::lack, "given_up::peer_speaks_after_user_timeout", given_up::peer_speaks_after_user_timeout),
    needing(given_up::lack, "given_up::peer_speaks_after_keepalive", given_up::peer_speaks_after_keepalive),
    needing(
        host::lacks_resets_without_socket,
        "given_up::peer_had_stopped_reading",
        given_up::peer_had_stopped_reading,
    ),
    needing(
        host::lacks_resets_without_socket,
        "given_up::late_answer_has_one_cause",
        given_up::late_answer_has_one_cause,
    ),
    needing(
        host::lacks_resets_without_socket,
        "given_up::request_after_fin_wait_has_an_owner",
        given_up::request_after_fin_wait_has_an_owner,
    ),
    row("given_up::new_connection_meets_a_leaked_socket", given_up::new_connection_meets_a_leaked_socket),
    row("given_up::new_connection_meets_a_lost_client", given_up::new_connection_meets_a_lost_client),
    needing(translated::lack, "translated::stateful_filter_forgets", translated::stateful_filter_forgets),
    needing(translated::lack, "translated::masquerade_forgets", translated::masquerade_forgets),
    needing(translated::lack, "translated::virtual_server_forgets", translated::virtual_server_forgets),
    needing(
        translated::lack,
        "translated::backend_of_virtual_server_aborts",
        translated::backend_of_virtual_server_aborts,
    ),
    needing(
        translated::lack,
        "translated::backend_of_virtual_server_refuses",
        translated::backend_of_virtual_server_refuses,
    ),
    needing(
        translated::lack,
        "translated::invalid_segment_kills_a_connection",
        translated::invalid_segment_kills_a_connection,
    ),
    needing(
        translated::lack,
        "translated::invalid_segment_of_a_closed_connection",
        translated::invalid_segment_of_a_closed_connection,
    ),
    needing(translated::lack, "translated::liberal_router_resets_nothing", translated::liberal_router_resets_nothing),
    needing(
        translated::lack,
        "translated::filter_of_the_server_rejects_a_connection",
        translated::filter_of_the_server_rejects_a_connection,
    ),
    needing(translated::lack, "translated::router_and_server_refuse", translated::router_and_server_refuse),
    needing(
        || host::lacks_program("redis-server"),
        "real_programs::redis::timeout_meets_a_pool",
        real_programs::redis::timeout_meets_a_pool,
    ),
    needing(
        || host::lacks_program("redis-server"),
        "real_programs::redis::killed_client_is_no_timeout",
        real_programs::redis::killed_client_is_no_timeout,
    ),
    needing(
        || host::lacks_program("redis-server"),
        "real_programs::redis::maxclients_turns_clients_away",
        real_programs::redis::maxclients_turns_clients_away,
    ),
    needing(
        || host::lacks_program("redis-server"),
        "real_programs::redis::killed_server_is_no_limit",
        real_programs::redis::killed_server_is_no_limit,
    ),
    needing(
        || host::lacks_program("redis-server"),
        "real_programs::redis::output_limit_ends_a_slow_reader",
        real_programs::redis::output_limit_ends_a_slow_reader,
    ),
    needing(
        || host::lacks_program("redis-server"),
        "real_programs::redis::aborting_client_is_no_slow_reader",
        real_programs::redis::aborting_client_is_no_slow_reader,
    ),
    needing(
        || host::lacks_program("curl").or_else(given_up::lack),
        "real_programs::curl::handshake_ends_too_late",
        real_programs::curl::handshake_ends_too_late,
    ),
    needing(
        real_programs::postgres::lack,
        "real_programs::postgres::session_timeout_meets_a_pool",
        real_programs::postgres::session_timeout_meets_a_pool,
    ),
    needing(
        real_programs::postgres::lack,
        "real_programs::postgres::terminated_session_is_used_again",
        real_programs::postgres::terminated_session_is_used_again,
    ),
    needing(
        real_programs::postgres::lack,
        "real_programs::postgres::killed_backend_ends_the_others",
        real_programs::postgres::killed_backend_ends_the_others,
    ),
    needing(
        real_programs::postgres::lack,
        "real_programs::postgres::full_server_resets_no_client",
        real_programs::postgres::full_server_resets_no_client,
    ),
    needing(
        real_programs::mariadb::lack,
        "real_programs::mariadb::wait_timeout_meets_a_pool",
        real_programs::mariadb::wait_timeout_meets_a_pool,
    ),
    needing(
        real_programs::mariadb::lack,
        "real_programs::mariadb::checks_leave_the_greeting_unread",
        real_programs::mariadb::checks_leave_the_greeting_unread,
    ),
    needing(
        real_programs::mariadb::lack,
        "real_programs::mariadb::killed_client_is_no_check",
        real_programs::mariadb::killed_client_is_no_check,
    ),
    needing(
        || host::lacks_runtime("memcached"),
        "real_programs::memcached::limit_turns_clients_away",
        real_programs::memcached::limit_turns_clients_away,
    ),
    needing(
        real_programs::openssh::lack,
        "real_programs::openssh::max_startups_turns_clients_away",
        real_programs::openssh::max_startups_turns_clients_away,
    ),
    needing(
        real_programs::openssh::lack,
        "real_programs::openssh::client_is_killed_in_a_session",
        real_programs::openssh::client_is_killed_in_a_session,
    ),
    needing(
        real_programs::openssh::lack,
        "real_programs::openssh::slow_session_resets_nothing",
        real_programs::openssh::slow_session_resets_nothing,
    ),
    needing(
        || host::lacks_program("haproxy"),
        "real_programs::relays::haproxy_passes_on_an_abort",
        real_programs::relays::haproxy_passes_on_an_abort,
    ),
    needing(
        || host::lacks_program("haproxy"),
        "real_programs::relays::haproxy_passes_on_a_cancel",
        real_programs::relays::haproxy_passes_on_a_cancel,
    ),
    needing(
        || host::lacks_runtime("stunnel4"),
        "real_programs::relays::stunnel_passes_on_an_abort",
        real_programs::relays::stunnel_passes_on_an_abort,
    ),
    needing(
        || host::lacks_runtime("stunnel4"),
        "real_programs::relays::stunnel_passes_on_a_cancel",
        real_programs::relays::stunnel_passes_on_a_cancel,
    ),
    needing(
        || host::lacks_program("haproxy"),
        "real_programs::relays::haproxy_has_no_backend",
        real_programs::relays::haproxy_has_no_backend,
    ),
    needing(
        || host::lacks_runtime("socat").or_else(host::lacks_speed),
        "real_programs::forwarders::socat_has_no_backend",
        real_programs::forwarders::socat_has_no_backend,
    ),
    needing(
        || host::lacks_runtime("socat").or_else(host::lacks_speed),
        "real_programs::forwarders::socat_passes_on_an_abort",
        real_programs::forwarders::socat_passes_on_an_abort,
    ),
    needing(
        || host::lacks_runtime("socat"),
        "real_programs::forwarders::socat_client_aborts",
        real_programs::forwarders::socat_client_aborts,
    ),
    needing(
        || real_programs::forwarders::lacks_docker_proxy().or_else(host::lacks_speed),
        "real_programs::forwarders::docker_proxy_has_no_backend",
        real_programs::forwarders::docker_proxy_has_no_backend,
    ),
    needing(
        real_programs::forwarders::lacks_docker_proxy,
        "real_programs::forwarders::docker_proxy_passes_on_an_abort",
        real_programs::forwarders::docker_proxy_passes_on_an_abort,
    ),
    needing(
        real_programs::forwarders::lacks_docker_proxy,
        "real_programs::forwarders::docker_proxy_client_aborts",
        real_programs::forwarders::docker_proxy_client_aborts,
    ),
    needing(
        || real_programs::forwarders::lacks_stream_module().or_else(host::lacks_speed),
        "real_programs::forwarders::nginx_stream_has_no_backend",
        real_programs::forwarders::nginx_stream_has_no_backend,
    ),
    needing(
        || real_programs::forwarders::lacks_stream_module().or_else(host::lacks_speed),
        "real_programs::forwarders::nginx_stream_passes_on_an_abort",
        real_programs::forwarders::nginx_stream_passes_on_an_abort,
    ),
    needing(
        real_programs::forwarders::lacks_stream_module,
        "real_programs::forwarders::nginx_stream_client_aborts",
        real_programs::forwarders::nginx_stream_client_aborts,
    ),
    needing(
        real_programs::openssh::lack,
        "real_programs::forwarders::forwarded_port_has_no_target",
        real_programs::forwarders::forwarded_port_has_no_target,
    ),
    needing(
        real_programs::openssh::lack,
        "real_programs::forwarders::forwarded_port_passes_on_an_abort",
        real_programs::forwarders::forwarded_port_passes_on_an_abort,
    ),
    needing(
        real_programs::openssh::lack,
        "real_programs::forwarders::forwarded_port_client_aborts",
        real_programs::forwarders::forwarded_port_client_aborts,
    ),
    needing(
        || host::lacks_runtime("varnishd"),
        "real_programs::caches::varnish_idle_client_asks_again",
        real_programs::caches::varnish_idle_client_asks_again,
    ),
    // The answer to a request is recognised by its time.
    Row {
        is_alone: true,
        ..needing(
            || host::lacks_runtime("varnishd"),
            "real_programs::caches::varnish_backend_closes_as_a_request_comes",
            real_programs::caches::varnish_backend_closes_as_a_request_comes,
        )
    },
    needing(
        || host::lacks_runtime("varnishd"),
        "real_programs::caches::varnish_backend_aborts_a_request",
        real_programs::caches::varnish_backend_aborts_a_request,
    ),
    needing(
        || host::lacks_runtime("varnishd"),
        "real_programs::caches::varnish_client_stops_a_download",
        real_programs::caches::varnish_client_stops_a_download,
    ),
    needing(
        || host::lacks_runtime("varnishd"),
        "real_programs::caches::varnish_client_gives_up",
        real_programs::caches::varnish_client_gives_up,
    ),
    needing(
        || host::lacks_runtime("squid"),
        "real_programs::caches::squid_idle_client_asks_again",
        real_programs::caches::squid_idle_client_asks_again,
    ),
    // The answer to a request is recognised by its time.
    Row {
        is_alone: true,
        ..needing(
            || host::lacks_runtime("squid"),
            "real_programs::caches::squid_backend_closes_as_a_request_comes",
            real_programs::caches::squid_backend_closes_as_a_request_comes,
        )
    },
    needing(
        || host::lacks_runtime("squid"),
        "real_programs::caches::squid_backend_aborts_a_request",
        real_programs::caches::squid_backend_aborts_a_request,
    ),
    needing(
        || host::lacks_runtime("squid"),
        "real_programs::caches::squid_client_stops_a_download",
        real_programs::caches::squid_client_stops_a_download,
    ),
    needing(
        || host::lacks_runtime("squid"),
        "real_programs::caches::squid_client_gives_up",
        real_programs::caches::squid_client_gives_up,
    ),
];

thread_local! {
    /// Message and place of this thread's panic.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Held for reading by every scenario that shares the machine with others, and for writing by one that does not.
static MACHINE: RwLock<()> = RwLock::new(());

/// The selected scenarios, each once for each transport that the selection has for it.
pub(crate) fn trials(selection: Selection) -> Vec<Trial> {
    panic::set_hook(Box::new(|panic| PANIC.with_borrow_mut(|text| *text = panic.to_string())));
    for family in selection::named_families() {
        let has = ROWS.iter().any(|row| row.name.split("::").next() == Some(family));
        assert!(has, "a selection names {family}, of which there is no scenario");
    }
    let trial = |(transport, row): (Transport, &'static Row)| {
        Trial::ignorable_test(format!("{}::{}", transport.name(), row.name), move || run(row, transport))
            .with_ignored_flag(row.on_demand)
    };
    let all = Transport::ALL.into_iter().flat_map(|transport| ROWS.iter().map(move |row| (transport, row)));
    all.filter(|(transport, row)| selection.has(*transport, row.name)).map(trial).collect()
}

/// Runs a scenario in a thread of its own, with which its namespace ends.
fn run(row: &'static Row, transport: Transport) -> Result<Completion, Failed> {
    match (row.lack)() {
        None => {}
        Some(Lack::Missing(what)) if host::nothing_may_be_missing() => return Err(what.into()),
        Some(Lack::Kernel(what) | Lack::Guest(what) | Lack::Host(what) | Lack::Missing(what)) => {
            return Ok(Completion::ignored_with(what));
        }
    }
    // A panicking scenario must not fail others by poisoning a lock.
    let _beside_others = (!row.is_alone).then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner));
    let _alone = row.is_alone.then(|| MACHINE.write().unwrap_or_else(PoisonError::into_inner));
    let play = move || {
        let play = || (row.play)(&Stage::set(transport));
        panic::catch_unwind(play).map_err(|_said_by_the_hook| PANIC.with_borrow(Clone::clone))
    };
    let failure = match thread::spawn(play).join() {
        Ok(Ok(())) => return Ok(Completion::Completed),
        Ok(Err(panic)) => panic,
        Err(_) => "the scenario's thread died".to_owned(),
    };
    if host::is_guest() {
        // The test runner reports failures at its end, which a virtual machine that is stopped early does not reach.
        let at = host::uptime_s();
        drop(writeln!(io::stderr(), "{}::{} failed, {at:.0} s after boot: {failure}", transport.name(), row.name));
    }
    Err(failure.into())
}
