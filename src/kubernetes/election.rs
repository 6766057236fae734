//! Leader election: the requests for the Lease, and the fence around calls to the platform.
//!
//! `elector` decides; this module sends its requests through the port [`Leases`] and publishes the result. A call to
//! the platform starts only while enough of the lease is left, and is cut off before the lease ends. CamposCloud takes
//! no fencing token: a process that is stopped between its check and its send can be late by one call, and one that is
//! stopped later cannot cut its calls off.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::elector::{Answer, CUT_OFF_MARGIN, Elector, MIN_LEFT_TO_START, Request};
use crate::clock::Clock;
use crate::operator::lead::Leadership;
use crate::platform::{ACT_DEADLINE, Answered, Page, PageRequest, Platform, Seen};
use crate::reconcile::app::AppId;
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::{Failure, RateLimitHeaders, Receipt, Verdict};
use crate::reconcile::state::Action;

/// Deadline of one request for the Lease: a renewal can be repeated twice within the shortest lease.
const DEADLINE: Duration = Duration::from_secs(4);
/// Longest interval between checks of the clock, which counts suspend time.
const SLICE: Duration = Duration::from_secs(1);

/// Storage of the Lease.
pub trait Leases: Send + Sync + 'static {
    fn send(&self, request: &Request) -> impl Future<Output = Result<Answer, String>> + Send;
}

/// End of the lease that this process holds.
type Until = watch::Receiver<Option<Moment>>;

/// A running election.
#[derive(Debug)]
pub struct Election {
    pub lead: watch::Receiver<Leadership>,
    until: Until,
    clock: Clock,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Election {
    pub fn start<L: Leases>(leases: L, elector: Elector, clock: Clock) -> Self {
        Self::start_on(leases, elector, clock, tokio::spawn)
    }

    /// Like [`start`](Self::start), but `spawn` starts the task.
    pub fn start_on<L: Leases>(
        leases: L,
        elector: Elector,
        clock: Clock,
        spawn: impl FnOnce(Pin<Box<dyn Future<Output = ()> + Send>>) -> JoinHandle<()>,
    ) -> Self {
        let (lead, shown) =
            watch::channel(Leadership { identity: elector.identity().clone(), ..Leadership::default() });
        let (ends, until) = watch::channel(None);
        let (end, ended) = oneshot::channel();
        let task = spawn(Box::pin(run(leases, elector, clock, lead, ends, ended)));
        Self { lead: shown, until, clock, end, task }
    }

    /// A platform that sends calls only while this process leads.
    pub fn fence<P>(&self, inner: P) -> Fenced<P> {
        Fenced { inner, until: self.until.clone(), clock: self.clock }
    }

    /// Releases the lease, so that another process can lead at once. All calls must have ended before.
    pub async fn release(self) {
        // Both fail only if the task has ended.
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}

/// Sends the requests of the elector until `ended`, then releases the lease.
async fn run<L: Leases>(
    leases: L,
    mut elector: Elector,
    clock: Clock,
    lead: watch::Sender<Leadership>,
    until: watch::Sender<Option<Moment>>,
    mut ended: oneshot::Receiver<()>,
) {
    let mut last_failure: Option<String> = None;
    let mut next = clock.now();
    loop {
        publish(&elector, clock, &lead, &until);
        if clock.now() < next {
            tokio::select! {
                biased;
                _ = &mut ended => break,
                () = sleep(slice(&elector, clock).min(next.since(clock.now()))) => continue,
            }
        }
        let request = elector.request();
        let sent = clock.with_sleep();
        let mut sending = pin!(timeout(DEADLINE, leases.send(&request)));
        let mut ending = false;
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut sending => break answer,
                // A release needs the version that a renewal on its way writes: it waits for the answer.
                _ = &mut ended, if !ending => ending = true,
                () = sleep(slice(&elector, clock)) => publish(&elector, clock, &lead, &until),
            }
        };
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", DEADLINE.as_secs())));
        let failed = answer.as_ref().err().cloned();
        if failed.is_some() != last_failure.is_some() {
            if let Some(cause) = &failed {
                warn!(cause, "could not read or renew the Lease; retrying");
            } else {
                info!("the Lease is readable again");
            }
            last_failure = failed;
        }
        let before = elector.holder().cloned();
        let wait = elector.answered(&request, answer.unwrap_or(Answer::Failed), sent, clock.with_sleep());
        if elector.holder() != before.as_ref() && elector.holder().is_some() {
            let (holder, leading) = (elector.holder().map(|holder| &**holder), elector.until().is_some());
            info!(holder, leading, "the leader changed");
        }
        if ending {
            break;
        }
        next = clock.now() + jittered(wait, clock);
    }
    until.send_replace(None);
    if let Some(request) = elector.release() {
        match timeout(DEADLINE, leases.send(&request)).await {
            Ok(Ok(Answer::Stored(_))) => info!("released the Lease"),
            Ok(Ok(_)) => {}
            Ok(Err(cause)) => warn!(cause, "could not release the Lease; it ends by itself"),
            Err(_) => warn!("could not release the Lease: no answer; it ends by itself"),
        }
    }
}

/// Time until the leadership is published again: it changes without a request when too little of the lease is left.
fn slice(elector: &Elector, clock: Clock) -> Duration {
    let left = elector.until().map(|end| end.since(clock.with_sleep()).saturating_sub(MIN_LEFT_TO_START));
    left.filter(|left| !left.is_zero()).map_or(SLICE, |left| left.min(SLICE))
}

/// Shortens the time by up to a tenth, so that replicas do not send at the same time.
fn jittered(wait: Duration, clock: Clock) -> Duration {
    let thousandths = u32::try_from(clock.wall().subsec_nanosecond() / 1_000 % 100).unwrap_or_default();
    wait.saturating_sub(wait * thousandths / 1_000)
}

fn publish(elector: &Elector, clock: Clock, lead: &watch::Sender<Leadership>, until: &watch::Sender<Option<Moment>>) {
    let may_send = elector.until().is_some_and(|end| end.since(clock.with_sleep()) > MIN_LEFT_TO_START);
    let new = Leadership {
        may_send,
        term: elector.term(),
        identity: elector.identity().clone(),
        holder: elector.holder().cloned(),
        readable: elector.is_readable(),
    };
    // Update the fence first, so that it admits every request that the operator may send.
    until.send_if_modified(|known| std::mem::replace(known, elector.until()) != elector.until());
    lead.send_if_modified(|known| {
        let changed = *known != new;
        *known = new;
        changed
    });
}

/// A platform that sends calls only while this process holds the lease.
#[derive(Debug)]
pub struct Fenced<P> {
    inner: P,
    until: Until,
    clock: Clock,
}

impl<P> Fenced<P> {
    fn left(&self) -> Duration {
        self.until.borrow().map_or(Duration::ZERO, |end| end.since(self.clock.with_sleep()))
    }

    /// Sends a request if enough of the lease is left, and cuts it off before the lease ends. A renewal moves this end.
    async fn fenced<T>(&self, request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        if self.left() < MIN_LEFT_TO_START {
            return Err(failure(Verdict::Retry, "not sent: less than 10 s of the lease are left"));
        }
        let cut = async {
            loop {
                let left = self.left().saturating_sub(CUT_OFF_MARGIN);
                if left.is_zero() {
                    break;
                }
                sleep(left.min(SLICE)).await;
            }
        };
        tokio::select! {
            biased;
            () = cut => Err(failure(Verdict::LostAnswer, "cut off before the end of the lease")),
            () = sleep(ACT_DEADLINE) => Err(failure(Verdict::LostAnswer, "no answer within 60 s")),
            answer = request => answer,
        }
    }
}

fn failure(verdict: Verdict, message: &'static str) -> Failure {
    Failure { verdict, http_status: None, message: message.into(), limits: RateLimitHeaders::default(), repeats: 0 }
}

impl<P: Platform> Platform for Fenced<P> {
    async fn list(&self, page: PageRequest) -> Result<Answered<Page>, Failure> {
        self.fenced(self.inner.list(page)).await
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        self.fenced(self.inner.get(id)).await
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        self.fenced(self.inner.act(action, id)).await
    }

    fn token_changed(&self) -> bool {
        self.inner.token_changed()
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        self.fenced(self.inner.whoami()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::simulator::lease::LeaseServer;

    const LEASE: Duration = Duration::from_secs(30);

    /// The record as an API server keeps it. It may be frozen, so that no request is answered, or answer late.
    #[derive(Clone, Default)]
    struct Server {
        record: Arc<Mutex<LeaseServer>>,
        frozen: Arc<AtomicBool>,
        answers_after: Duration,
    }

    impl Leases for Server {
        async fn send(&self, request: &Request) -> Result<Answer, String> {
            if self.frozen.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let answer = self.record.lock().unwrap().handle(request);
            sleep(self.answers_after).await;
            Ok(answer)
        }
    }

    /// A platform whose calls take a while, and that counts those that began.
    struct Slow(Duration, AtomicU32);

    impl Slow {
        async fn answer<T>(&self, value: T) -> Result<Answered<T>, Failure> {
            self.1.fetch_add(1, Ordering::Relaxed);
            sleep(self.0).await;
            Ok(Answered { value, limits: RateLimitHeaders::default(), repeats: 0 })
        }
    }

    impl Platform for Slow {
        async fn list(&self, _: PageRequest) -> Result<Answered<Page>, Failure> {
            self.answer(Page::default()).await
        }

        async fn get(&self, _: &AppId) -> Result<Answered<Seen>, Failure> {
            Err(failure(Verdict::NotFound, "none"))
        }

        async fn act(&self, _: Action, _: &AppId) -> Result<Answered<Receipt>, Failure> {
            self.answer(Receipt { http_status: 200, status: None, online: None, date: None, oddity: None }).await
        }

        async fn whoami(&self) -> Result<Answered<()>, Failure> {
            self.answer(()).await
        }
    }

    fn clock() -> Clock {
        Clock::simulated("2026-11-27T12:00:00Z".parse().unwrap())
    }

    fn start(server: &Server, name: &str, clock: Clock) -> Election {
        Election::start(server.clone(), Elector::new(name.into(), LEASE), clock)
    }

    async fn led_by(election: &Election, name: &str) {
        let mut lead = election.lead.clone();
        lead.wait_for(|lead| lead.holder.as_deref() == Some(name)).await.unwrap();
    }

    async fn leads(election: &Election) {
        let mut lead = election.lead.clone();
        lead.wait_for(|lead| lead.may_send).await.unwrap();
    }

    fn fence(until: Option<Moment>, takes: u64, clock: Clock) -> (watch::Sender<Option<Moment>>, Fenced<Slow>) {
        let (ends, until) = watch::channel(until);
        let inner = Slow(Duration::from_secs(takes), AtomicU32::new(0));
        (ends, Fenced { inner, until, clock })
    }

    async fn stop(fenced: &Fenced<Slow>) -> Result<(), (Verdict, u64)> {
        let start = fenced.clock.now();
        let answer = fenced.act(Action::Stop, &"a".parse().unwrap()).await;
        answer.map(|_| ()).map_err(|failure| (failure.verdict, fenced.clock.now().since(start).as_secs()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_starts_only_with_enough_of_the_lease_left() {
        let clock = clock();
        let (ends, fenced) = fence(None, 1, clock);
        assert_eq!(stop(&fenced).await, Err((Verdict::Retry, 0)));
        ends.send_replace(Some(clock.now() + MIN_LEFT_TO_START - Duration::from_millis(1)));
        assert_eq!(stop(&fenced).await, Err((Verdict::Retry, 0)));
        assert_eq!(fenced.inner.1.load(Ordering::Relaxed), 0, "nothing was sent");
        ends.send_replace(Some(clock.now() + MIN_LEFT_TO_START));
        assert_eq!(stop(&fenced).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_cut_off_before_the_lease_ends_and_after_a_minute() {
        let clock = clock();
        let (ends, fenced) = fence(Some(clock.now() + LEASE), 1000, clock);
        assert_eq!(stop(&fenced).await, Err((Verdict::LostAnswer, 29)));
        ends.send_replace(Some(clock.now() + LEASE));
        let renewal = async {
            sleep(Duration::from_secs(20)).await;
            ends.send_replace(Some(clock.now() + Duration::from_secs(300)));
        };
        assert_eq!(tokio::join!(stop(&fenced), renewal).0, Err((Verdict::LostAnswer, 60)), "a renewal moves the end");
        let loss = async {
            sleep(Duration::from_secs(5)).await;
            ends.send_replace(None);
        };
        assert_eq!(tokio::join!(stop(&fenced), loss).0, Err((Verdict::LostAnswer, 5)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_the_other_takes_over_within_a_lease_and_two_seconds() {
        let (server, clock) = (Server::default(), clock());
        let a = start(&server, "a", clock);
        leads(&a).await;
        let b = start(&server, "b", clock);
        led_by(&b, "a").await;
        sleep(Duration::from_secs(300)).await;
        assert!(a.lead.borrow().may_send && !b.lead.borrow().may_send);
        assert_eq!(a.lead.borrow().term, 1);
        // A crash: no release.
        a.task.abort();
        let crashed = clock.now();
        leads(&b).await;
        assert!(clock.now().since(crashed) <= LEASE + Duration::from_secs(2), "{:?}", clock.now().since(crashed));
        assert!(clock.now().since(crashed) >= LEASE * 2 / 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_lease_is_taken_within_a_second() {
        let (server, clock) = (Server::default(), clock());
        let (a, b) = (start(&server, "a", clock), start(&server, "b", clock));
        leads(&a).await;
        let released = clock.now();
        a.release().await;
        leads(&b).await;
        assert!(clock.now().since(released) <= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_released_although_a_renewal_is_on_its_way() {
        let answers_after = Duration::from_millis(300);
        let (server, clock) = (Server { answers_after, ..Server::default() }, clock());
        let (a, b) = (start(&server, "a", clock), start(&server, "b", clock));
        leads(&a).await;
        let version = || server.record.lock().unwrap().record.as_ref().unwrap().version.clone();
        let before = version();
        while version() == before {
            sleep(Duration::from_millis(10)).await;
        }
        let released = clock.now();
        a.release().await;
        leads(&b).await;
        assert!(clock.now().since(released) <= Duration::from_secs(4), "{:?}", clock.now().since(released));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_api_server_stops_calls_after_twenty_seconds_and_changes_no_leader() {
        let (server, clock) = (Server::default(), clock());
        let a = start(&server, "a", clock);
        leads(&a).await;
        let b = start(&server, "b", clock);
        led_by(&b, "a").await;
        server.frozen.store(true, Ordering::Relaxed);
        let frozen = clock.now();
        let mut lead = a.lead.clone();
        lead.wait_for(|lead| !lead.may_send).await.unwrap();
        assert!(clock.now().since(frozen) <= Duration::from_millis(20_001), "{:?}", clock.now().since(frozen));
        sleep(Duration::from_secs(60)).await;
        assert!(!b.lead.borrow().may_send && !b.lead.borrow().readable);
        server.frozen.store(false, Ordering::Relaxed);
        leads(&a).await;
        sleep(Duration::from_secs(60)).await;
        assert!(a.lead.borrow().may_send && !b.lead.borrow().may_send);
        assert_eq!(a.lead.borrow().term, 2, "its readings are ignored");
    }
}
