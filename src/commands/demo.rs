//! `demo`: simulator, daemon and status page in one process, without a token or a network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Url;
use secrecy::SecretString;
use tracing::info;

use super::run::{Start, listen, operate, salt};
use super::{Exit, runtime, simulate};
use crate::camposcloud::token::TokenSource;
use crate::cli::{DemoArgs, Listen};
use crate::clock::Clock;
use crate::manifest::source::Options;
use crate::operator::Settings;
use crate::settings::{self, Api};
use crate::simulator::http;
use crate::simulator::world::{Config, TOKEN};

pub(super) fn demo(args: &DemoArgs) -> anyhow::Result<Exit> {
    settings::existing_directories(&args.manifests.manifests)?;
    let clock = Clock::system();
    let config = Config { effect_delay: Duration::from_millis(300), ..Config::default() };
    let from = args.manifests.manifests.first().map(std::path::PathBuf::as_path);
    let world = simulate::seeded(config, 0, from, clock)?;
    let server = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).context("could not bind the simulator's port")?;
    let url: Url =
        format!("http://{}", server.local_addr()?).parse().context("could not read the simulator's address")?;
    let listener = match args.listen {
        Listen::Off => None,
        Listen::On(address) => Some(listen(address).or_else(|_| listen(SocketAddr::new(address.ip(), 0)))?),
    };
    let page = listener.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
    let manifests = &args.manifests.manifests;
    let shown = manifests.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    info!("demo: a simulated CamposCloud with one running app for each manifest in {shown}, and the operator");
    info!("try: edit a file below {shown} (say, flip a state between Running and Stopped), save it, and watch");
    if let Some(page) = page {
        info!("open: http://{page}/ in a browser, or curl http://{page}/api/v1/apps    (ctrl-c ends the demo)");
    }
    runtime()?.block_on(async {
        tokio::spawn(async move {
            if let Err(error) = http::serve(server, world, clock).await {
                tracing::error!(%error, "the simulator failed");
            }
        });
        // On the heap: clippy finds the future large with the feature `kubernetes`.
        Box::pin(operate(Start {
            manifests: manifests.clone(),
            source: Options {
                scan_interval: Duration::from_secs(10),
                watch: true,
                rules: settings::rules(&args.manifests.rules),
                allow_empty: false,
            },
            api: Api { url, token: Arc::new(TokenSource::fixed(SecretString::from(TOKEN))) },
            settings: Settings { interval: Duration::from_secs(10), salt: salt(), ..Settings::default() },
            listener,
            allowed: Vec::new(),
            state_dir: None,
            source_link: None,
            notifications: None,
            kubernetes: None,
            reloads: false,
        }))
        .await
    })
}
