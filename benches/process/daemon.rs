//! The operator as a user runs it: the release binary as a process, seen from outside.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::fleet::Fleet;
use crate::server::Server;

/// The measured binary: the one that cargo built with the bench, or that of `BENCH_OPERATOR`.
pub(crate) fn binary() -> PathBuf {
    env::var_os("BENCH_OPERATOR").unwrap_or_else(|| env!("CARGO_BIN_EXE_campos-operator").into()).into()
}

/// The token, which the server of the bench ignores.
pub(crate) const TOKEN: &str = "bench";

/// The log message when nothing is left to do.
const SETTLED: &str = "apps are as declared";
/// Deadline until nothing is left to do.
const PATIENCE: Duration = Duration::from_secs(180);

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// `VmRSS`.
    pub(crate) resident: f64,
    /// `RssAnon`: heap and stacks.
    pub(crate) anonymous: f64,
    /// `RssFile`: pages of the binary and its libraries, shared with the page cache.
    pub(crate) file: f64,
    /// `VmHWM`: the peak.
    pub(crate) peak: f64,
}

/// The processor use of a process so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Time on a processor, in seconds.
    pub(crate) cpu: f64,
    /// Number of voluntary context switches: each needs a wake-up.
    pub(crate) sleeps: f64,
}

/// A running operator; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    /// Just before it was started.
    pub(crate) started: Instant,
}

impl Daemon {
    /// Starts `run` on a fleet against a server, with no budget and no port.
    pub(crate) fn start(fleet: &Fleet, server: &Server, arguments: &[&str]) -> anyhow::Result<Self> {
        let fixed = ["run", "--api-budget", "unlimited", "--api-url", &server.url(), "--manifests"];
        // A directory of its own, so that several may share one fleet.
        let log = tempfile::Builder::new().suffix(".log").tempfile_in(fleet.staging())?.keep()?.1;
        let mut command = command();
        command.args(fixed).arg(fleet.manifests()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let started = Instant::now();
        let child = command.spawn().context("starting the operator")?;
        Ok(Self { child, log, started })
    }

    fn process(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }

    /// The length of the log so far.
    pub(crate) fn logged(&self) -> usize {
        fs::metadata(&self.log).map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX))
    }

    /// Waits until the log reports, after its first `logged` bytes, that nothing is left to do.
    pub(crate) fn settle_after(&mut self, logged: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = fs::read(&self.log)?;
            let new = log.get(logged..).unwrap_or_default();
            if new.windows(SETTLED.len()).any(|window| window == SETTLED.as_bytes()) {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = String::from_utf8_lossy(&log);
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                bail!("the operator did not settle ({ended:?}); the end of its log, last line first: {last:#?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nothing is left to do for the first time.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        self.settle_after(0)
    }

    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs::read_to_string(self.process().join("status"))?;
        let field = |name: &str| -> anyhow::Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            let number = line.trim_start_matches(':').trim().trim_end_matches("kB").trim();
            Ok(number.parse::<f64>().with_context(|| format!("{name} is {number:?}"))? * 1024.0)
        };
        Ok(Memory {
            resident: field("VmRSS")?,
            anonymous: field("RssAnon")?,
            file: field("RssFile")?,
            peak: field("VmHWM")?,
        })
    }

    /// Summed over its threads. Those that ended are left out; the operator's live as long as it does.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let mut usage = Usage::default();
        for task in fs::read_dir(self.process().join("task"))? {
            let task = task?.path();
            // schedstat counts nanoseconds; stat counts ticks of 10 ms, which an idle process does not reach.
            let times = fs::read_to_string(task.join("schedstat"))?;
            let nanoseconds: f64 = times.split(' ').next().unwrap_or_default().parse()?;
            usage.cpu += nanoseconds / 1e9;
            let status = fs::read_to_string(task.join("status"))?;
            let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            usage.sleeps += sleeps.context("no voluntary_ctxt_switches")?.trim().parse::<f64>()?;
        }
        Ok(usage)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The binary, without the caller's environment.
pub(crate) fn command() -> Command {
    let mut command = Command::new(binary());
    command.env_clear().env("CAMPOSCLOUD_TOKEN", TOKEN);
    command
}

/// The run time of a command.
pub(crate) fn timed<A: AsRef<OsStr>>(arguments: &[A]) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let status = command().args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let took = started.elapsed();
    anyhow::ensure!(status.success(), "{} ended with {status}", binary().display());
    Ok(took)
}
