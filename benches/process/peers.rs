//! Peers: small programs for the same job: those of this binary (the floor and the tutorial program), and those of
//! `benches/peers/` that need other programs, if these are installed.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};

/// One kind of loop.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    program: PathBuf,
    script: &'static str,
    environment: Option<(&'static str, &'static str)>,
    /// A command that succeeds if everything is installed, and the name of the requirement.
    probe: (Vec<&'static str>, &'static str),
}

/// All of them.
pub(crate) fn kinds() -> Vec<Kind> {
    // One by one: `command -v` of several names succeeds if one of them is there.
    let shell = vec!["-c", "command -v inotifywait && command -v yq && command -v curl"];
    let shell_needs = "needs inotifywait (inotify-tools), yq and curl";
    let python = vec!["-c", "import watchfiles, httpx, yaml"];
    let python_needs = "needs Python with watchfiles, httpx and PyYAML; BENCH_PYTHON names the interpreter";
    let interpreter = env::var_os("BENCH_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let (sh, py) = ("benches/peers/watch.sh", "benches/peers/watch.py");
    vec![
        Kind { name: "watch.sh", program: "bash".into(), script: sh, environment: None, probe: (shell, shell_needs) },
        Kind {
            name: "watch.py",
            program: interpreter.clone(),
            script: py,
            environment: None,
            probe: (python.clone(), python_needs),
        },
        Kind {
            name: "watch.py, 1 ms",
            program: interpreter,
            script: py,
            environment: Some(("WATCH_STEP_MS", "1")),
            probe: (python, python_needs),
        },
    ]
}

impl Kind {
    /// The missing requirement, if there is one.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let (arguments, needs) = &self.probe;
        let probe = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        (!probe.is_ok_and(|status| status.success())).then_some(*needs)
    }

    pub(crate) fn start(&self, manifests: &Path, url: &str) -> anyhow::Result<Peer> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.script);
        let mut command = Command::new(&self.program);
        command.arg(script).arg(manifests).arg(url).env("CAMPOSCLOUD_TOKEN", "bench").envs(self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own, so that the shell's children end with it.
        let started = Instant::now();
        let child = command.process_group(0).spawn().with_context(|| format!("starting {}", self.name))?;
        Ok(Peer { child, started })
    }
}

/// A running loop; dropping it ends it and its children.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    /// Just before it was started.
    pub(crate) started: Instant,
}

impl Peer {
    /// Starts a peer that this binary is, too, if its first argument is `verb`.
    pub(crate) fn own(verb: &str, manifests: &Path, server: SocketAddr) -> anyhow::Result<Self> {
        let started = Instant::now();
        let child = Command::new(env::current_exe()?)
            .arg(verb)
            .arg(server.to_string())
            .arg(manifests)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {verb}"))?;
        Ok(Self { child, started })
    }

    /// Waits until one of [`Peer::own`] watches.
    pub(crate) fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        BufReader::new(self.child.stdout.take().context("its output is piped")?).read_line(&mut String::new())?;
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; the figures show the failure.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
