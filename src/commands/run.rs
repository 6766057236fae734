//! `run`: the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{Exit, runtime, variable};
use crate::camposcloud::client::Client;
use crate::camposcloud::token::TokenSource;
use crate::cli::{Listen, RunArgs};
use crate::clock::Clock;
use crate::http;
use crate::kubernetes;
use crate::manifest::source::{Options, Source, SourceHandle};
use crate::notifications;
use crate::operator::shutdown::{self, Hangup};
use crate::operator::{Ended, Operator, Settings};
use crate::platform::Platform;
use crate::service;
use crate::settings::{self, Api};
use crate::status::Board;

/// Checked arguments of a daemon.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) manifests: Vec<PathBuf>,
    pub(super) source: Options,
    pub(super) api: Api,
    pub(super) settings: Settings,
    pub(super) listener: Option<std::net::TcpListener>,
    /// Further host names under which the port answers.
    pub(super) allowed: Vec<String>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) source_link: Option<String>,
    pub(super) notifications: Option<notifications::Settings>,
    /// The Kubernetes API, where it is used.
    pub(super) kubernetes: Option<kubernetes::Settings>,
    /// Whether SIGHUP reloads.
    pub(super) reloads: bool,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let api = settings::api(&args.api, variable)?;
    // A directory that is missing at the start is a typing error. If it disappears later, the operator waits for it.
    let kubernetes = settings::kubernetes(args, variable)?;
    if kubernetes.as_ref().is_none_or(|kubernetes| !kubernetes.source) {
        settings::existing_directories(&args.manifests.manifests)?;
    }
    let listener = match args.listen {
        Listen::Off => None,
        Listen::On(address) => Some(listen(address)?),
    };
    if let Some(warning) = settings::budget_warning(args.api.api_budget) {
        warn!("{warning}");
    }
    let start = Start {
        manifests: args.manifests.manifests.clone(),
        source: settings::source(args),
        api,
        settings: settings::operator(args, salt()),
        listener,
        allowed: args.allow_host.clone(),
        state_dir: args.state_dir.clone(),
        source_link: args.source_link.clone(),
        notifications: Some(settings::notifications(args)?),
        kubernetes,
        reloads: true,
    };
    runtime()?.block_on(operate(start))
}

fn board(start: &Start) -> anyhow::Result<Board> {
    let board = Board::default();
    if let Some(template) = &start.source_link {
        board.link_sources(template.clone());
    }
    if let Some(directory) = &start.state_dir {
        board.keep_history(directory.clone()).context("could not start the history")?;
    }
    Ok(board)
}

/// Runs the operator until it ends.
pub(super) async fn operate(start: Start) -> anyhow::Result<Exit> {
    let board = board(&start)?;
    let Start { manifests, source, api, settings, listener, allowed, notifications, kubernetes, reloads, .. } = start;
    let (stopper, shutdown) = shutdown::pair();
    let (reload, reloaded) = watch::channel(0);
    let hangup = if reloads { Hangup::of_daemon(reload) } else { Hangup::Terminate };
    stopper.on_signals(hangup).context("could not set up the signal handlers")?;
    let clock = Clock::system();
    let token = api.token.clone();
    let client = Client::new(api.url.clone(), api.token).context("could not set up the HTTP client")?;
    let listen = listener.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
    if let Some(listener) = listener {
        http::start(listener, board.clone(), clock, &allowed).context("could not start the HTTP port")?;
    }
    service::start(board.clone(), clock, shutdown.clone())
        .context("could not start the reports to the service manager")?;
    if let Some(notifications) = notifications {
        notifications::start(board.clone(), clock, notifications).context("could not start the notifications")?;
    }
    let directories = manifests.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let has_files = kubernetes.as_ref().is_none_or(|kubernetes| !kubernetes.source);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        api_url = %api.url,
        manifests = %if has_files { &*directories } else { "kubernetes" },
        listen = listen.map(|address| address.to_string()),
        interval_s = settings.interval.as_secs_f64(),
        policy = settings.policy.as_str(),
        dry_run = settings.dry_run,
        "started"
    );
    warn_of_open_port(listen);
    let once = settings.once.is_some();
    let (sender, updates) = unbounded_channel();
    let deliver = move |update| drop(sender.send(update));
    #[cfg(feature = "kubernetes")]
    let cluster = match &kubernetes {
        Some(settings) => {
            let cluster = kubernetes::Cluster::connect(settings.namespace.as_deref()).await;
            Some(cluster.context("could not set up the client of the Kubernetes API")?)
        }
        None => None,
    };
    let scan_interval = source.scan_interval;
    #[cfg(feature = "kubernetes")]
    let mut registry = None;
    let files = if kubernetes.as_ref().is_some_and(|kubernetes| kubernetes.source) {
        #[cfg(feature = "kubernetes")]
        if let Some(cluster) = &cluster {
            let followed = cluster.follow(source.allow_empty, deliver);
            board.meters().follow_scans(followed.answered.clone());
            registry = Some(followed);
        }
        None
    } else {
        let files = Source::start(manifests, source, deliver).context("could not start to watch the manifests")?;
        board.meters().follow_scans(files.scanned());
        Some(files)
    };
    reload_on_hangup(token, reloaded, files.as_ref().map(SourceHandle::rescanner));
    let scans = files.as_ref().map(|files| (files.scans(), scan_interval));
    #[cfg(feature = "kubernetes")]
    let election = cluster.as_ref().zip(kubernetes.and_then(|kubernetes| kubernetes.election));
    #[cfg(feature = "kubernetes")]
    let election = election.map(|(cluster, lease)| cluster.elect(&lease, settings.salt, clock));
    #[cfg(feature = "kubernetes")]
    let writer = cluster.as_ref().zip(registry).map(|(cluster, registry)| {
        cluster.write_status(registry, board.clone(), election.as_ref().map(|election| election.lead.clone()))
    });
    #[cfg(not(feature = "kubernetes"))]
    let election: Option<std::convert::Infallible> = None;
    let ended = match election {
        #[cfg(feature = "kubernetes")]
        Some(election) => {
            let operator = Operator::new(Arc::new(election.fence(client)), settings, clock, board.clone());
            let operator = operator.follow_leader(election.lead.clone());
            let ended = with_scan_check(operator, scans).run(updates, shutdown).await;
            // The next leader writes the statuses.
            writer.inspect(tokio::task::JoinHandle::abort);
            election.release().await;
            ended
        }
        #[cfg(not(feature = "kubernetes"))]
        Some(never) => match never {},
        None => {
            let operator = Operator::new(Arc::new(client), settings, clock, board.clone());
            with_scan_check(operator, scans).run(updates, shutdown).await
        }
    };
    drop(files);
    board.close_history();
    Ok(exit(ended, once))
}

fn reload_on_hangup(
    token: Arc<TokenSource>,
    mut reloaded: watch::Receiver<u64>,
    rescan: Option<impl Fn() + Send + 'static>,
) {
    tokio::spawn(async move {
        while reloaded.changed().await.is_ok() {
            info!("SIGHUP: scanning the manifests and reading the token again");
            token.reload();
            if let Some(rescan) = &rescan {
                rescan();
            }
        }
    });
}

fn warn_of_open_port(listen: Option<SocketAddr>) {
    if let Some(address) = listen.filter(|address| !http::is_loopback(*address)) {
        warn!(
            listen = %address,
            "other machines can reach the HTTP port, which has no password: it shows names, ids, schedules and labels of the \
             apps, file names, history, counters and error messages; put it behind a firewall or a proxy, or listen on \
             127.0.0.1"
        );
    }
}

/// Reports the end of a run, and returns the exit code.
fn exit(ended: Ended, once: bool) -> Exit {
    match ended {
        Ended::Stopped if once => Exit::Failed,
        Ended::Stopped => Exit::Done,
        Ended::Settled => {
            info!("nothing is left to do");
            Exit::Done
        }
        Ended::NeedsPerson(count) => {
            error!(count, "apps or manifests need a person; see the warnings above");
            Exit::Failed
        }
        Ended::TimedOut => {
            error!("not all apps are settled after --timeout");
            Exit::Failed
        }
    }
}

/// The operator, which checks that its source keeps scanning, if it scans.
fn with_scan_check<P: Platform>(operator: Operator<P>, scans: Option<(Arc<AtomicU64>, Duration)>) -> Operator<P> {
    match scans {
        Some((finished, interval)) => operator.follow_scans(finished, interval),
        None => operator,
    }
}

/// Binds the read-only port.
pub(super) fn listen(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    http::bind(address)
        .with_context(|| format!("--listen {address}: could not bind the HTTP port (\"off\" runs without one)"))
}

/// A number that differs between processes.
pub(super) fn salt() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}
