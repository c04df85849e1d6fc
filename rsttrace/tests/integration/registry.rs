//! Every scenario, a row each.

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
        aborts, after_close, bad_input, belongs, blocks, cgroups, cross_check, deploy, destroy, endings,
        endings_of_peers, exactly_once, faults, filters, flood, forwarded, functions, handed_over, hostile, idle,
        ignored, injected, keepalive, limits, listener, long, lost, machine, mapped, mixed, name_service, namespaces,
        own_words, owners, privileges, programs, real_programs, receivers, refused, rejected, reuse, routed, sinks,
        snapshot, summary, timers,
    },
    stage::{Stage, Transport},
};

/// One scenario.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    play: fn(&Stage),
    /// What this host lacks for it.
    lack: fn() -> Option<Lack>,
    /// Only when it is asked for, with `--ignored`.
    on_demand: bool,
    /// Nothing else is played meanwhile.
    is_alone: bool,
}

const fn row(name: &'static str, play: fn(&Stage)) -> Row {
    needing(|| None, name, play)
}

const fn needing(lack: fn() -> Option<Lack>, name: &'static str, play: fn(&Stage)) -> Row {
    Row { name, play, lack, on_demand: false, is_alone: false }
}

/// In a virtual machine, and alone there.
const fn alone(name: &'static str, play: fn(&Stage)) -> Row {
    Row { is_alone: true, ..needing(host::lacks_a_machine_of_its_own, name, play) }
}

/// On this machine, but while no other is played.
const fn undisturbed(name: &'static str, play: fn(&Stage)) -> Row {
    Row { is_alone: true, ..row(name, play) }
}

/// Alone, where resets without a socket are seen.
const fn flood(name: &'static str, play: fn(&Stage)) -> Row {
    Row { is_alone: true, ..needing(host::lacks_resets_without_socket, name, play) }
}

const fn on_demand(name: &'static str, play: fn(&Stage)) -> Row {
    Row { on_demand: true, ..row(name, play) }
}

const ROWS: &[Row] = &[
    row("refused::v4", refused::v4),
    row("refused::v6", refused::v6),
    row("aborts::linger_zero", aborts::linger_zero),
    row("aborts::linger_zero_v6", aborts::linger_zero_v6),
    row("aborts::unread_data", aborts::unread_data),
    row("aborts::killed_server", aborts::killed_server),
    row("aborts::disconnect", aborts::disconnect),
    row("after_close::time_wait", after_close::time_wait),
    row("after_close::orphan_in_fin_wait2", after_close::orphan_in_fin_wait2),
    row("after_close::orphan_in_fin_wait1", after_close::orphan_in_fin_wait1),
    row("after_close::shut_down_while_uploading", after_close::shut_down_while_uploading),
    row("after_close::shut_down_and_only_received_wanted", after_close::shut_down_and_only_received_wanted),
    row("after_close::shut_down_and_only_sent_wanted", after_close::shut_down_and_only_sent_wanted),
    row("listener::closed_with_connections_waiting", listener::closed_with_connections_waiting),
    row("listener::queue_overflow", listener::queue_overflow),
    row("listener::queue_full_and_silent", listener::queue_full_and_silent),
    needing(destroy::lack, "destroy::by_another_process", destroy::by_another_process),
    row("snapshot::connection", snapshot::connection),
    row("snapshot::listener", snapshot::listener),
    row("snapshot::accepted_from_it", snapshot::accepted_from_it),
    row("namespaces::every_one_is_seen", namespaces::every_one_is_seen),
    row("namespaces::filter_by_path", namespaces::filter_by_path),
    // Others would be given the number.
    undisturbed("namespaces::number_is_used_again", namespaces::number_is_used_again),
    row("namespaces::path_names_another", namespaces::path_names_another),
    row("namespaces::process_of_the_path_ends", namespaces::process_of_the_path_ends),
    row("namespaces::number_of_none", namespaces::number_of_none),
    row("limits::stack", limits::stack),
    row("limits::address_space", limits::address_space),
    needing(|| host::lacks_program("unshare"), "limits::user_namespace", limits::user_namespace),
    needing(faults::no_memory_controller, "limits::memory", limits::memory),
    row("bad_input::reader_of_ready_fd_is_gone", bad_input::reader_of_ready_fd_is_gone),
    row("mapped::accepted_by_dual_stack_listener", mapped::accepted_by_dual_stack_listener),
    row("mapped::connected_from_ipv6_socket", mapped::connected_from_ipv6_socket),
    row("exactly_once::twenty_three", exactly_once::twenty_three),
    row("mixed::in_turns", mixed::in_turns),
    row("mixed::from_several_threads", mixed::from_several_threads),
    row("mixed::only_received", mixed::only_received),
    row("mixed::only_sent", mixed::only_sent),
    row("mixed::with_filters", mixed::with_filters),
    row("mixed::with_losses", mixed::with_losses),
    row("reuse::addresses_of_sockets", reuse::addresses_of_sockets),
    row("reuse::process_id", reuse::process_id),
    needing(host::lacks_resets_without_socket, "reuse::port_of_a_client", reuse::port_of_a_client),
    needing(host::lacks_resets_without_socket, "reuse::late_data_of_a_client", reuse::late_data_of_a_client),
    row("belongs::program_and_user", belongs::program_and_user),
    row("belongs::died_after_another_reset", belongs::died_after_another_reset),
    row("belongs::died_but_was_there_at_the_start", belongs::died_but_was_there_at_the_start),
    needing(belongs::lack, "belongs::container_and_unit", belongs::container_and_unit),
    needing(belongs::lack, "belongs::owner_goes_before_socket", belongs::owner_goes_before_socket),
    needing(belongs::lack, "cgroups::names_of_any_bytes", cgroups::names_of_any_bytes),
    needing(belongs::lack, "cgroups::made_again", cgroups::made_again),
    needing(belongs::lack, "cgroups::none_of_that_name", cgroups::none_of_that_name),
    needing(belongs::lack, "hostile::names_in_every_format", hostile::names_in_every_format),
    row("handed_over::worker_owns_what_it_closes", handed_over::worker_owns_what_it_closes),
    row("handed_over::worker_owns_what_it_accepted", handed_over::worker_owns_what_it_accepted),
    row("handed_over::last_holder_is_the_actor", handed_over::last_holder_is_the_actor),
    row("owners::threads", owners::threads),
    needing(owners::no_io_uring, "owners::accepted_through_io_uring", owners::accepted_through_io_uring),
    row("owners::passed_on", owners::passed_on),
    row("owners::on_its_way", owners::on_its_way),
    row("owners::shared_by_two", owners::shared_by_two),
    row("owners::parent_alone_again", owners::parent_alone_again),
    row("owners::served_by_a_program", owners::served_by_a_program),
    row("owners::opener_has_ended", owners::opener_has_ended),
    row("owners::heir_of_an_ended_opener_resets", owners::heir_of_an_ended_opener_resets),
    row("owners::listener_in_the_background", owners::listener_in_the_background),
    row("owners::group_of_listeners", owners::group_of_listeners),
    row("owners::accepted_from_a_group", owners::accepted_from_a_group),
    row("owners::owner_is_gone", owners::owner_is_gone),
    row("owners::closed_by_the_child_last", owners::closed_by_the_child_last),
    row("owners::pid_namespace", owners::pid_namespace),
    row("owners::short_lives", owners::short_lives),
    row("owners::more_than_remembered", owners::more_than_remembered),
    row("keepalive::timeout", keepalive::timeout),
    row("idle::request_meets_timeout", idle::request_meets_timeout),
    row("idle::silence_that_matches_nothing", idle::silence_that_matches_nothing),
    row("idle::silence_and_a_killed_server", idle::silence_and_a_killed_server),
    row("idle::silence_and_a_slow_answer", idle::silence_and_a_slow_answer),
    row("idle::reset_when_time_is_up", idle::reset_when_time_is_up),
    row("idle::waiting_is_not_idle", idle::waiting_is_not_idle),
    row("idle::too_early_for_the_timeout", idle::too_early_for_the_timeout),
    row("endings_of_peers::client_does_not_wait", endings_of_peers::client_does_not_wait),
    row("endings_of_peers::answer_comes_too_late", endings_of_peers::answer_comes_too_late),
    row("endings_of_peers::client_ends_what_is_done", endings_of_peers::client_ends_what_is_done),
    row("endings_of_peers::early_answer_to_upload", endings_of_peers::early_answer_to_upload),
    row("endings_of_peers::fin_after_our_data", endings_of_peers::fin_after_our_data),
    row("endings_of_peers::shut_down_and_waiting", endings_of_peers::shut_down_and_waiting),
    row("endings_of_peers::after_our_close", endings_of_peers::after_our_close),
    row("endings_of_peers::restart", endings_of_peers::restart),
    row("endings_of_peers::health_check", endings_of_peers::health_check),
    row("endings_of_peers::vanished", endings_of_peers::vanished),
    row("endings_of_peers::vanished_and_listening", endings_of_peers::vanished_and_listening),
    row("endings_of_peers::probe_finds_nobody", endings_of_peers::probe_finds_nobody),
    needing(host::lacks_resets_without_socket, "endings_of_peers::scan", endings_of_peers::scan),
    needing(
        || host::lacks_program("nft"),
        "endings_of_peers::filter_on_first_data",
        endings_of_peers::filter_on_first_data,
    ),
    row("timers::user_timeout", timers::user_timeout),
    row("timers::negative_linger2", timers::negative_linger2),
    row("own_words::doctor", own_words::doctor),
    row("own_words::kernel_messages", own_words::kernel_messages),
    row("filters::sent", filters::sent),
    row("filters::received", filters::received),
    row("filters::pid", filters::pid),
    row("filters::two_pids", filters::two_pids),
    row("filters::comm", filters::comm),
    row("filters::peer_v4", filters::peer_v4),
    row("filters::peer_v6", filters::peer_v6),
    row("filters::peer_elsewhere", filters::peer_elsewhere),
    row("filters::peer_port", filters::peer_port),
    row("filters::local_port", filters::local_port),
    row("filters::port", filters::port),
    row("filters::port_range", filters::port_range),
    row("filters::ipv4", filters::ipv4),
    row("filters::ipv6", filters::ipv6),
    row("summary::counters_of_another_namespace", summary::counters_of_another_namespace),
    row("summary::at_intervals", summary::at_intervals),
    flood("flood::of_one_peer", flood::of_one_peer),
    flood("flood::of_many_peers", flood::of_many_peers),
    flood("flood::while_nobody_reads", flood::while_nobody_reads),
    flood("flood::connections_come_through", flood::connections_come_through),
    Row {
        is_alone: true,
        ..needing(flood::no_steering, "flood::in_the_middle_of_others", flood::in_the_middle_of_others)
    },
    needing(deploy::lacks_setpriv, "deploy::service", deploy::service),
    needing(deploy::lack, "deploy::by_their_programs", deploy::by_their_programs),
    needing(deploy::lack, "deploy::by_what_they_say", deploy::by_what_they_say),
    row("sinks::json_file::equals_stdout", sinks::json_file::equals_stdout),
    row("sinks::json_file::is_moved_away", sinks::json_file::is_moved_away),
    row("sinks::json_file::is_removed", sinks::json_file::is_removed),
    row("sinks::json_file::is_truncated_and_the_disk_full", sinks::json_file::is_truncated_and_the_disk_full),
    row("sinks::json_file::meets_its_size_limit", sinks::json_file::meets_its_size_limit),
    row("sinks::json_file::start_within_a_file_size_limit", sinks::json_file::start_within_a_file_size_limit),
    row("sinks::metrics::beside_half_open_requests", sinks::metrics::beside_half_open_requests),
    needing(receivers::no_journal, "sinks::journal", sinks::journal),
    needing(
        || host::lacks_runtime("prometheus").or_else(deploy::lack),
        "sinks::metrics::prometheus",
        sinks::metrics::prometheus,
    ),
    needing(|| host::lacks_runtime("rsyslogd"), "sinks::syslog", sinks::syslog),
    needing(|| host::lacks_runtime("rsyslogd"), "sinks::syslog_comes_late", sinks::syslog_comes_late),
    needing(receivers::no_tls, "sinks::syslog_tls", sinks::syslog_tls),
    needing(receivers::no_collector, "sinks::collector", sinks::collector),
    needing(receivers::no_receivers, "sinks::many_through_each", sinks::many_through_each),
    row("sinks::one_that_fails_harms_no_other", sinks::one_that_fails_harms_no_other),
    on_demand("long::an_hour_of_churn", long::an_hour_of_churn),
    row("lost::every_reset_is_counted", lost::every_reset_is_counted),
    row("endings::after_a_count", endings::after_a_count),
    row("endings::after_a_duration", endings::after_a_duration),
    row("endings::on_sigterm", endings::on_sigterm),
    row("endings::closed_pipe", endings::closed_pipe),
    row("endings::full_device", endings::full_device),
    needing(blocks::lack, "blocks::last_line_of_a_burst", blocks::last_line_of_a_burst),
    needing(blocks::lack, "blocks::single_reset", blocks::single_reset),
    row("endings::stuck_reader", endings::stuck_reader),
    row("endings::stuck_reader_of_both", endings::stuck_reader_of_both),
    row("endings::not_root", endings::not_root),
    row("endings::bad_usage", endings::bad_usage),
    row("faults::killed", faults::killed),
    row("faults::killed_while_it_writes", faults::killed_while_it_writes),
    row("faults::full_disk", faults::full_disk),
    row("faults::reader_goes_in_the_middle", faults::reader_goes_in_the_middle),
    row("faults::no_standard_output", faults::no_standard_output),
    row("faults::few_descriptors", faults::few_descriptors),
    row("faults::descriptors_run_out", faults::descriptors_run_out),
    row("faults::hidden_processes", faults::hidden_processes),
    row("faults::hidden_processes_without_ptrace", faults::hidden_processes_without_ptrace),
    // Its sockets are the runner's own, and whoever starts a puppet meanwhile has a copy of each until exec: that is the
    // last to close some, and rightly named.
    Row { is_alone: true, ..row("faults::namespaces_come_and_go", faults::namespaces_come_and_go) },
    row("faults::a_second_one", faults::a_second_one),
    row("faults::stopped_and_continued", faults::stopped_and_continued),
    row("faults::ended_with_a_full_buffer", faults::ended_with_a_full_buffer),
    needing(faults::no_memory_controller, "faults::little_memory", faults::little_memory),
    needing(name_service::lack, "name_service::module_behind_the_sandbox", name_service::module_behind_the_sandbox),
    row("privileges::given_up_in_every_start", privileges::given_up_in_every_start),
    row("privileges::given_up_after_attaching", privileges::given_up_after_attaching),
    row("privileges::as_another_user", privileges::as_another_user),
    row("privileges::with_three_capabilities_alone", privileges::with_three_capabilities_alone),
    row("privileges::user_that_cannot_be_had", privileges::user_that_cannot_be_had),
    row("cross_check::counters_and_wire", cross_check::counters_and_wire),
    Row { lack: host::lacks_a_second_processor, ..alone("machine::cpu_offline", machine::cpu_offline) },
    alone("machine::clock_set", machine::clock_set),
    needing(host::lacks_hooks_on_functions, "functions::are_hooked_by_both_ways", functions::are_hooked_by_both_ways),
    needing(chain::lack, "routed::abort_v4", routed::abort_v4),
    needing(chain::lack, "routed::abort_v6", routed::abort_v6),
    needing(injected::lack, "injected::forged", injected::forged),
    needing(injected::lack, "injected::genuine", injected::genuine),
    needing(ignored::lack, "ignored::each_for_its_reason", ignored::each_for_its_reason),
    needing(chain::lack, "ignored::only_on_demand", ignored::only_on_demand),
    needing(chain::lack, "forwarded::through_a_router", forwarded::through_a_router),
    needing(chain::lack, "forwarded::through_a_router_v6", forwarded::through_a_router_v6),
    needing(rejected::lack, "rejected::at_the_input_v4", rejected::at_the_input_v4),
    needing(rejected::lack, "rejected::at_the_input_v6", rejected::at_the_input_v6),
    needing(rejected::lack_in_the_middle, "rejected::on_the_way", rejected::on_the_way),
    needing(|| host::lacks_program("curl"), "programs::curl", programs::curl),
    needing(|| host::lacks_program("python3"), "programs::python", programs::python),
    needing(|| host::lacks_program("nginx"), "programs::nginx", programs::nginx),
    needing(|| host::lacks_program("apache2"), "real_programs::apache::prefork", real_programs::apache::prefork),
    needing(|| host::lacks_program("haproxy"), "real_programs::gateway::haproxy", real_programs::gateway::haproxy),
    needing(|| host::lacks_program("nginx"), "real_programs::gateway::nginx", real_programs::gateway::nginx),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::gateway::nginx_is_late",
        real_programs::gateway::nginx_is_late,
    ),
    needing(|| host::lacks_program("haproxy"), "real_programs::haproxy::worker", real_programs::haproxy::worker),
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
    needing(|| host::lacks_program("xinetd"), "real_programs::inetd::xinetd", real_programs::inetd::xinetd),
    needing(|| host::lacks_runtime("java"), "real_programs::jvm::client", real_programs::jvm::client),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::nginx::before_the_start",
        real_programs::nginx::before_the_start,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::nginx::killed_worker",
        real_programs::nginx::killed_worker,
    ),
    needing(|| host::lacks_program("nginx"), "real_programs::nginx::reuseport", real_programs::nginx::reuseport),
    needing(|| host::lacks_program("nginx"), "real_programs::nginx::workers", real_programs::nginx::workers),
    needing(|| host::lacks_runtime("node"), "real_programs::node::alone", real_programs::node::alone),
    needing(|| host::lacks_runtime("node"), "real_programs::node::cluster", real_programs::node::cluster),
    needing(|| host::lacks_program("python3"), "real_programs::python::forking", real_programs::python::forking),
    needing(|| host::lacks_program("gunicorn"), "real_programs::python::gunicorn", real_programs::python::gunicorn),
    needing(|| host::lacks_program("python3"), "real_programs::python::passing", real_programs::python::passing),
    needing(|| host::lacks_program("python3"), "real_programs::python::prefork", real_programs::python::prefork),
    needing(
        || host::lacks_program("python3"),
        "real_programs::python::prefork_before_the_start",
        real_programs::python::prefork_before_the_start,
    ),
    needing(|| host::lacks_program("python3"), "real_programs::python::reuseport", real_programs::python::reuseport),
    needing(|| host::lacks_program("python3"), "real_programs::python::threads", real_programs::python::threads),
    needing(
        || host::lacks_program("redis-server"),
        "real_programs::redis::kills_a_client",
        real_programs::redis::kills_a_client,
    ),
    needing(
        || host::lacks_program("nginx"),
        "real_programs::timeouts::nginx_keepalive",
        real_programs::timeouts::nginx_keepalive,
    ),
    needing(
        || host::lacks_program("haproxy"),
        "real_programs::timeouts::haproxy_keepalive",
        real_programs::timeouts::haproxy_keepalive,
    ),
    needing(
        || host::lacks_runtime("node"),
        "real_programs::timeouts::node_keepalive",
        real_programs::timeouts::node_keepalive,
    ),
    needing(
        || host::lacks_program("gunicorn"),
        "real_programs::timeouts::gunicorn_keepalive",
        real_programs::timeouts::gunicorn_keepalive,
    ),
    needing(
        || host::lacks_program("redis-server"),
        "real_programs::timeouts::redis_timeout",
        real_programs::timeouts::redis_timeout,
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
];

thread_local! {
    /// What this thread's panic said, and where.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Held by every scenario that shares the machine with others, and by one that does not.
static MACHINE: RwLock<()> = RwLock::new(());

/// Every scenario, once for each transport.
pub(crate) fn trials() -> Vec<Trial> {
    panic::set_hook(Box::new(|panic| PANIC.with_borrow_mut(|text| *text = panic.to_string())));
    let trial = |(transport, row): (Transport, &'static Row)| {
        Trial::ignorable_test(format!("{}::{}", transport.name(), row.name), move || run(row, transport))
            .with_ignored_flag(row.on_demand)
    };
    Transport::ALL.into_iter().flat_map(|transport| ROWS.iter().map(move |row| (transport, row))).map(trial).collect()
}

/// Plays a scenario in a thread of its own, which leaves its namespace with it.
fn run(row: &'static Row, transport: Transport) -> Result<Completion, Failed> {
    match (row.lack)() {
        None => {}
        Some(Lack::Missing(what)) if host::nothing_may_be_missing() => return Err(what.into()),
        Some(Lack::Kernel(what) | Lack::Guest(what) | Lack::Host(what) | Lack::Missing(what)) => {
            return Ok(Completion::ignored_with(what));
        }
    }
    // A scenario panics in a thread of its own, so that nothing is ever poisoned.
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
        // The runner says it at its end, which a machine that is given up does not reach.
        let at = host::uptime_s();
        drop(writeln!(io::stderr(), "{}::{} failed, {at:.0} s after boot: {failure}", transport.name(), row.name));
    }
    Err(failure.into())
}
