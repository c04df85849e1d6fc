//! Programs that people run, and the setting of each to look at.

use foldhash::HashMap;

use crate::model::Process;

/// A program, and what it calls the things that causes are about.
struct Program {
    /// Names of its executable or process, the beginning of each.
    names: &'static [&'static str],
    /// A word in the command line, for programs that run in an interpreter.
    words: &'static [&'static str],
    settings: &'static [(&'static [&'static str], &'static str)],
}

/// Where the client keeps connections for too long.
const POOL: &[&str] = &["reused-closed-connection", "keepalive-race"];
/// Where idle connections need probes, or a shorter life.
const IDLE: &[&str] = &["idle-timeout-path", "idle-reset", "keepalive-answer"];
/// Where the server was too slow for its client.
const SLOW: &[&str] = &["client-gave-up"];
/// Where the server does not read to the end.
const UNREAD: &[&str] = &["closed-with-unread-data", "data-after-close"];
/// Where the server aborts.
const ABORT: &[&str] = &["linger-zero"];
/// Where connections wait for too long to be accepted.
const QUEUE: &[&str] = &["listen-overflow"];
/// Where a service stops under its clients.
const STOP: &[&str] = &["listener-closed", "process-died"];

/// The first that fits; what runs in an interpreter comes before the interpreter.
const PROGRAMS: &[Program] = &[
    Program {
        names: &["nginx", "openresty", "angie"],
        words: &[],
        settings: &[
            (
                POOL,
                "nginx: keepalive_timeout in the upstream block, which has to be below that of the backend; proxy_next_upstream lets it try another.",
            ),
            (IDLE, "nginx: proxy_socket_keepalive on, and so_keepalive of the listen directive."),
            (SLOW, "nginx: proxy_read_timeout and the backend's own times; it logs such requests with status 499."),
            (
                UNREAD,
                "nginx: lingering_close on, lingering_time and lingering_timeout; client_max_body_size where it answers 413.",
            ),
            (ABORT, "nginx: reset_timedout_connection, and return 444."),
            (QUEUE, "nginx: backlog= of the listen directive, worker_connections."),
            (STOP, "nginx: stop it with SIGQUIT (nginx -s quit), and worker_shutdown_timeout."),
        ],
    },
    Program {
        names: &["haproxy"],
        words: &[],
        settings: &[
            (
                POOL,
                "HAProxy: pool-purge-delay, http-reuse, and retry-on conn-failure empty-response for what may be repeated.",
            ),
            (IDLE, "HAProxy: option srvtcpka and option clitcpka, timeout tunnel for long connections."),
            (SLOW, "HAProxy: timeout server and the backend's own times; it logs such requests with the flags C---."),
            (UNREAD, "HAProxy: option http-buffer-request; it closes early where it answers by itself."),
            (ABORT, "HAProxy: option nolinger, http-request silent-drop, and checks, which end with a reset."),
            (QUEUE, "HAProxy: backlog and maxconn of the frontend."),
            (STOP, "HAProxy: hard-stop-after, and reload it instead of restarting it."),
        ],
    },
    Program {
        names: &["envoy"],
        words: &[],
        settings: &[
            (
                POOL,
                "Envoy: common_http_protocol_options.idle_timeout of the cluster, below that of the backend; retry_on: reset-before-request.",
            ),
            (IDLE, "Envoy: upstream_connection_options.tcp_keepalive of the cluster."),
            (SLOW, "Envoy: the route's timeout; it logs such requests with the flag DC."),
            (UNREAD, "Envoy: delayed_close_timeout of the HTTP connection manager."),
            (QUEUE, "Envoy: tcp_backlog_size of the listener."),
            (STOP, "Envoy: drain it first (drain_listeners, --drain-time-s)."),
        ],
    },
    Program {
        names: &["apache2", "httpd"],
        words: &[],
        settings: &[
            (POOL, "Apache: ttl= and disablereuse= of ProxyPass, below the backend's keep-alive."),
            (IDLE, "Apache: keepalive=On of ProxyPass."),
            (SLOW, "Apache: Timeout, ProxyTimeout and the backend's own times."),
            (UNREAD, "Apache: LimitRequestBody where it answers 413; RequestReadTimeout."),
            (QUEUE, "Apache: ListenBacklog, MaxRequestWorkers."),
            (STOP, "Apache: apachectl graceful-stop, GracefulShutdownTimeout."),
        ],
    },
    Program {
        names: &["traefik"],
        words: &[],
        settings: &[
            (POOL, "Traefik: forwardingTimeouts.idleConnTimeout of the serversTransport, below that of the backend."),
            (SLOW, "Traefik: respondingTimeouts of the entry point, and the backend's own times."),
            (STOP, "Traefik: transport.lifeCycle.graceTimeOut of the entry point."),
        ],
    },
    Program {
        names: &["caddy"],
        words: &[],
        settings: &[
            (POOL, "Caddy: transport http keepalive of reverse_proxy, below that of the backend."),
            (STOP, "Caddy: the global option grace_period."),
        ],
    },
    Program {
        names: &["gunicorn"],
        words: &["gunicorn"],
        settings: &[
            (SLOW, "gunicorn: --timeout, --workers and --threads."),
            (UNREAD, "gunicorn: read the request's body in the application before it answers."),
            (QUEUE, "gunicorn: --backlog, --workers and --threads."),
            (STOP, "gunicorn: --graceful-timeout, --max-requests, and --timeout, after which it kills a worker."),
        ],
    },
    Program {
        names: &["uvicorn"],
        words: &["uvicorn"],
        settings: &[
            (SLOW, "uvicorn: --workers, and what blocks the event loop."),
            (QUEUE, "uvicorn: --backlog and --limit-concurrency."),
            (STOP, "uvicorn: --timeout-graceful-shutdown."),
        ],
    },
    Program {
        names: &["puma"],
        words: &["puma"],
        settings: &[
            (SLOW, "Puma: threads and workers."),
            (STOP, "Puma: force_shutdown_after, worker_shutdown_timeout."),
        ],
    },
    Program {
        names: &[],
        words: &["tomcat", "catalina"],
        settings: &[
            (
                POOL,
                "Java: the pool's own limits (Apache HttpClient: evictIdleConnections, setValidateAfterInactivity; OkHttp: ConnectionPool).",
            ),
            (SLOW, "Tomcat: maxThreads of the connector, and what its threads wait for."),
            (
                UNREAD,
                "Tomcat: maxSwallowSize of the connector: beyond that it does not read a rejected upload to its end.",
            ),
            (QUEUE, "Tomcat: acceptCount and maxConnections of the connector."),
            (STOP, "Tomcat: unloadDelay, and the grace period of whatever stops it."),
        ],
    },
    Program {
        names: &["java"],
        words: &[],
        settings: &[
            (
                POOL,
                "Java: Apache HttpClient evictIdleConnections and setValidateAfterInactivity, OkHttp ConnectionPool, Reactor Netty maxIdleTime, java.net.http jdk.httpclient.keepalive.timeout.",
            ),
            (IDLE, "Java: SO_KEEPALIVE (StandardSocketOptions), TCP_KEEPIDLE of ExtendedSocketOptions."),
            (SLOW, "Java: the server's threads and its garbage collection pauses."),
            (UNREAD, "Java: read the input stream to its end before closing the socket."),
            (ABORT, "Java: Socket.setSoLinger(true, 0)."),
            (QUEUE, "Java: the backlog of ServerSocket, acceptCount of Tomcat, acceptQueueSize of Jetty."),
        ],
    },
    Program {
        names: &["node"],
        words: &[],
        settings: &[
            (
                POOL,
                "Node.js: http.Agent keepAlive with agentKeepAliveTimeoutBuffer or freeSocketTimeout (agentkeepalive); undici keepAliveTimeout; all below the server's.",
            ),
            (IDLE, "Node.js: socket.setKeepAlive(true, delay)."),
            (SLOW, "Node.js: what blocks the event loop; server.requestTimeout."),
            (UNREAD, "Node.js: req.resume() before ending a response early."),
            (ABORT, "Node.js: socket.resetAndDestroy()."),
            (QUEUE, "Node.js: the backlog of server.listen."),
            (STOP, "Node.js: server.close() and closeIdleConnections() on SIGTERM."),
        ],
    },
    Program {
        names: &["postgres", "pgbouncer"],
        words: &[],
        settings: &[
            (IDLE, "PostgreSQL: tcp_keepalives_idle, tcp_keepalives_interval, tcp_keepalives_count."),
            (
                SLOW,
                "PostgreSQL: the client ended its session during a query; client_connection_check_interval notices sooner.",
            ),
            (
                UNREAD,
                "PostgreSQL: idle_session_timeout, idle_in_transaction_session_timeout, statement_timeout, pg_terminate_backend.",
            ),
            (STOP, "PostgreSQL: pg_ctl stop -m smart waits for the clients."),
        ],
    },
    Program {
        names: &["mysqld", "mariadbd"],
        words: &[],
        settings: &[
            (IDLE, "MySQL: wait_timeout, and keep-alive in the client."),
            (UNREAD, "MySQL: max_allowed_packet, wait_timeout."),
        ],
    },
    Program {
        names: &["redis-server", "valkey-server", "keydb-server"],
        words: &[],
        settings: &[
            (IDLE, "Redis: timeout and tcp-keepalive."),
            (UNREAD, "Redis: timeout, client-output-buffer-limit, maxclients, CLIENT KILL."),
            (QUEUE, "Redis: tcp-backlog."),
        ],
    },
    Program {
        names: &["php-fpm"],
        words: &["php-fpm"],
        settings: &[
            (SLOW, "PHP-FPM: pm.max_children, request_terminate_timeout."),
            (QUEUE, "PHP-FPM: listen.backlog, pm.max_children."),
            (STOP, "PHP-FPM: process_control_timeout, request_terminate_timeout."),
        ],
    },
    Program {
        names: &["dotnet"],
        words: &[".dll"],
        settings: &[
            (POOL, ".NET: PooledConnectionIdleTimeout and PooledConnectionLifetime of SocketsHttpHandler."),
            (SLOW, ".NET: what blocks the thread pool."),
        ],
    },
    Program {
        names: &["python"],
        words: &[],
        settings: &[
            (
                POOL,
                "Python: urllib3 and requests keep connections without a limit of time; let Retry repeat what may be repeated. aiohttp: keepalive_timeout of TCPConnector. httpx: keepalive_expiry.",
            ),
            (ABORT, "Python: SO_LINGER, or socket.shutdown missing before close."),
        ],
    },
    Program { names: &["curl", "wget"], words: &[], settings: &[(IDLE, "curl: --keepalive-time.")] },
    Program {
        names: &["prometheus", "kubelet", "kube-proxy", "dockerd", "containerd", "tyk", "vault", "consul", "etcd"],
        words: &[],
        settings: &[
            (POOL, "Go: IdleConnTimeout of http.Transport, below the server's."),
            (STOP, "Go: http.Server.Shutdown."),
        ],
    },
];

/// What to look at for this cause in each program that has a setting for it.
pub(super) fn settings(code: &str) -> impl Iterator<Item = &'static str> {
    let of = move |program: &'static Program| program.settings.iter().find(move |(codes, _)| codes.contains(&code));
    PROGRAMS.iter().filter_map(of).map(|&(_, setting)| setting)
}

/// The same table by cause: most concern few programs.
pub(super) struct ByCause(HashMap<&'static str, Vec<(&'static Program, &'static str)>>);

impl Default for ByCause {
    fn default() -> Self {
        let mut all: HashMap<_, Vec<_>> = HashMap::default();
        for program in PROGRAMS {
            for &(codes, setting) in program.settings {
                for &code in codes {
                    all.entry(code).or_default().push((program, setting));
                }
            }
        }
        Self(all)
    }
}

impl ByCause {
    /// What to look at in this program for this cause.
    pub(super) fn setting(&self, process: &Process, code: &str) -> Option<&'static str> {
        let programs = self.0.get(code)?;
        let executable = process.executable.as_deref().and_then(|path| path.rsplit('/').next());
        let line = process.command_line.as_deref().unwrap_or_default();
        let named =
            |name: &&str| [Some(&*process.comm), executable].into_iter().flatten().any(|own| own.starts_with(*name));
        let fits = |program: &Program| {
            program.words.iter().any(|word| line.contains(word)) || program.names.iter().any(&named)
        };
        programs.iter().find(|(program, _)| fits(program)).map(|&(_, setting)| setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::catalogue,
        model::{OwnerConfidence, Provenance},
    };

    fn process(comm: &str, executable: &str, line: &str) -> Process {
        Process {
            pid: 1,
            comm: comm.into(),
            executable: Some(executable.into()),
            command_line: Some(line.into()),
            uid: None,
            user: None,
            cgroup: None,
            provenance: Provenance::Connect,
            confidence: OwnerConfidence::Exact,
        }
    }

    #[test]
    fn codes_are_in_the_catalogue() {
        for (codes, setting) in PROGRAMS.iter().flat_map(|program| program.settings) {
            assert!(setting.ends_with('.'), "{setting}");
            for code in *codes {
                assert!(catalogue::find(code).is_some(), "{code}");
            }
        }
    }

    #[test]
    fn what_runs_in_an_interpreter_is_found() {
        let settings = ByCause::default();
        let found = |comm, executable, line| {
            settings.setting(&process(comm, executable, line), "listen-overflow").unwrap_or("")
        };
        assert!(found("nginx", "/usr/sbin/nginx", "nginx: worker process").starts_with("nginx: "));
        assert!(found("python3", "/usr/bin/python3.13", "python3 /usr/bin/gunicorn app:app").starts_with("gunicorn: "));
        assert!(found("MainThread", "/usr/bin/node", "node server.js").starts_with("Node.js: "));
        assert!(found("java", "/usr/bin/java", "java -Dcatalina.home=/opt/t Bootstrap").starts_with("Tomcat: "));
        assert_eq!(found("own-server", "/opt/own", "own"), "");
    }
}
