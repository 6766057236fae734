use proptest::prelude::*;

use super::bucket::LEAST_RATE;
use super::*;
use crate::reconcile::backoff::ACCOUNT_PROBES;

fn failure(verdict: Verdict) -> Failure {
    Failure { verdict, http_status: None, message: "x".into(), limits: RateLimitHeaders::default(), repeats: 0 }
}

fn paused(seconds: u64) -> LimiterEvent {
    let pause = Duration::from_secs(seconds);
    LimiterEvent::Paused { pause, cause: PauseCause::Refused, bounded: false, first: true }
}

fn app(n: usize) -> Call {
    Call::Act(format!("app-{n}").parse().unwrap())
}

/// Number of requests of `lane` that are admitted in `seconds`.
fn drain(limiter: &mut RateLimiter, lane: Lane, from: u64, seconds: u64) -> u32 {
    let (mut now, mut count) = (Moment::from_secs(from), 0);
    while now < Moment::from_secs(from + seconds) {
        match limiter.admit(lane, now) {
            Admission::Go => count += 1,
            Admission::At(at) => now = at,
            Admission::Later => break,
        }
    }
    count
}

#[test]
fn the_budget_holds_and_observation_takes_half_of_it() {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    assert_eq!(drain(&mut limiter, Lane::Act, 0, 60), 130 - 1); // a burst of ten, then two a second
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    assert_eq!(drain(&mut limiter, Lane::Observe, 0, 60), 65 - 1);
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    drain(&mut limiter, Lane::Observe, 0, 60);
    assert!(drain(&mut limiter, Lane::Act, 60, 60) >= 120, "what observation leaves is for calls");
}

#[test]
fn a_repeat_is_charged_and_leaves_at_most_one_token_below_zero() {
    let now = Moment::START;
    let mut limiter = RateLimiter::new(Budget::PerMinute(60), 0);
    while limiter.admit(Lane::Act, now) == Admission::Go {}
    limiter.charge(0, now);
    let unpaid = limiter.clone().admit(Lane::Act, now);
    assert_eq!(unpaid, Admission::At(now + Duration::from_secs(1) + Duration::from_micros(1)));
    limiter.charge(1, now);
    let owing = Admission::At(now + Duration::from_secs(2) + Duration::from_micros(1));
    assert_eq!(limiter.clone().admit(Lane::Act, now), owing);
    // Nine connections died at once.
    (0..8).for_each(|_| limiter.charge(1, now));
    assert_eq!(limiter.admit(Lane::Act, now), owing);
    let mut unlimited = RateLimiter::new(Budget::Unlimited, 0);
    unlimited.charge(1, now);
    assert_eq!(unlimited.admit(Lane::Act, now), Admission::Go);
}

#[test]
fn an_unlimited_budget_is_not_paced() {
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    assert!((0..10_000).all(|_| limiter.admit(Lane::Act, Moment::START) == Admission::Go));
}

/// Fault V4: ten requests a second are served, forty are requested, and no header has the limit.
#[test]
fn an_unannounced_limit_is_found_by_refusals() {
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    let (mut wanted, mut refused, mut millis) = (40, 0, 0_u64);
    let (mut second, mut served) = (0, 0);
    while wanted > 0 {
        let now = Moment::from_secs(100) + Duration::from_millis(millis);
        if millis / 1000 != second {
            (second, served) = (millis / 1000, 0);
        }
        // Thirty-two calls at most are on the wire at once.
        let sent = (0..32.min(wanted)).take_while(|_| limiter.admit(Lane::Act, now) == Admission::Go).count();
        for _ in 0..sent {
            if served < 10 {
                (served, wanted) = (served + 1, wanted - 1);
                limiter.succeeded(&Call::List, RateLimitHeaders::default(), now);
            } else {
                refused += 1;
                limiter.failed(&app(refused), &failure(Verdict::RateLimited { after: None }), now);
            }
        }
        millis += 10;
    }
    assert!(millis < 10_000 && refused < 40, "{millis} ms, {refused} refused");
}

#[test]
fn a_pause_is_obeyed_by_everybody() {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    let refusal = failure(Verdict::RateLimited { after: Some(Duration::from_secs(5)) });
    let now = Moment::from_secs(100);
    assert_eq!(limiter.failed(&Call::List, &refusal, now), [paused(5)]);
    for lane in Lane::ALL {
        assert_eq!(limiter.admit(lane, now), Admission::At(Moment::from_secs(105)));
    }
    // A shorter pause that arrives later does not shorten it.
    let shorter = failure(Verdict::RateLimited { after: Some(Duration::ZERO) });
    assert_eq!(limiter.failed(&app(2), &shorter, now), [], "it is told once");
    assert_eq!(limiter.admit(Lane::Act, now), Admission::At(Moment::from_secs(105)));
    assert!(matches!(limiter.admit(Lane::Act, Moment::from_secs(110)), Admission::Go));
}

#[test]
fn refusals_without_a_header_slow_down_and_successes_speed_up_again() {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    let mut now = Moment::from_secs(1);
    let refused = failure(Verdict::RateLimited { after: None });
    limiter.failed(&Call::List, &refused, now);
    limiter.failed(&app(2), &refused, now);
    assert_eq!(limiter.requests_per_minute(now), Some(60.0), "answers to one burst are one refusal");
    for _ in 0..10 {
        now = probe(&mut limiter, now);
        limiter.failed(&app(1), &refused, now);
    }
    assert_eq!(limiter.requests_per_minute(now), Some(60.0), "a refused probe says nothing of the rate");
    for _ in 0..200 {
        now = probe(&mut limiter, now);
        limiter.succeeded(&app(1), RateLimitHeaders::default(), now);
        limiter.failed(&Call::List, &refused, now);
    }
    assert_eq!(limiter.requests_per_minute(now), Some(LEAST_RATE));
    for _ in 0..200 {
        limiter.succeeded(&Call::List, RateLimitHeaders::default(), now);
    }
    assert_eq!(limiter.requests_per_minute(now), Some(120.0));
}

/// The moment at which the probe after a pause goes out.
fn probe(limiter: &mut RateLimiter, mut now: Moment) -> Moment {
    loop {
        match limiter.admit(Lane::Act, now) {
            Admission::Go => return now,
            Admission::At(at) => now = at,
            Admission::Later => panic!("no probe is on the wire"),
        }
    }
}

/// Requests in 50 s to a server that refuses each of them.
fn refused_requests(budget: Budget, after: Option<u64>, salt: u64) -> (u32, u32) {
    let mut limiter = RateLimiter::new(budget, salt);
    let refused = failure(Verdict::RateLimited { after: after.map(Duration::from_secs) });
    let (start, mut now, mut halves) = (Moment::from_secs(100), Moment::from_secs(100), [0, 0]);
    while now < start + Duration::from_secs(50) {
        match limiter.admit(Lane::Observe, now) {
            Admission::Go => {
                halves[usize::from(now >= start + Duration::from_secs(25))] += 1;
                limiter.failed(&Call::List, &refused, now);
            }
            Admission::At(at) => now = at,
            Admission::Later => panic!("no probe is on the wire"),
        }
    }
    (halves[0], halves[1])
}

#[test]
fn refusals_slow_down_whatever_the_header_says() {
    for salt in 0..50 {
        for (budget, after) in [
            (Budget::PerMinute(120), Some(1)),
            (Budget::PerMinute(120), None),
            (Budget::Unlimited, Some(0)),
            (Budget::Unlimited, Some(1)),
        ] {
            let (first, second) = refused_requests(budget, after, salt);
            assert!(first + second <= 12 && second < first && second > 0, "{budget:?} {after:?}: {first} {second}");
        }
    }
}

#[test]
fn after_a_pause_one_probe_goes_first() {
    for budget in [Budget::PerMinute(600), Budget::Unlimited] {
        let mut limiter = RateLimiter::new(budget, 0);
        let now = Moment::from_secs(100);
        limiter.failed(&Call::List, &failure(Verdict::RateLimited { after: Some(Duration::from_secs(5)) }), now);
        let after = now + Duration::from_secs(5);
        assert_eq!(limiter.admit(Lane::Act, after), Admission::Go);
        assert_eq!(limiter.admit(Lane::Act, after), Admission::Later);
        limiter.failed(&app(1), &failure(Verdict::LostAnswer), after);
        assert_eq!(limiter.admit(Lane::Act, after), Admission::Go, "a probe without an answer is repeated");
        limiter.failed(&app(1), &failure(Verdict::NotFound), after);
        assert_eq!(limiter.admit(Lane::Act, after), Admission::Go);
        assert_eq!(limiter.admit(Lane::Act, after), Admission::Go, "any answer but a refusal ends the pause");
    }
}

#[test]
fn a_wait_is_not_longer_than_the_failures() {
    let gone = failure(Verdict::Retry);
    for salt in 0..50 {
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), salt);
        let (start, mut now) = (Moment::from_secs(100), Moment::from_secs(100));
        for n in 0..4 {
            limiter.failed(&app(n), &gone, now);
        }
        while now < start + Duration::from_secs(200) {
            limiter.failed(&Call::List, &gone, now);
            let next = probe(&mut limiter, now);
            let most = now.since(start).max(Duration::from_secs(5));
            assert!(next.since(now) <= most, "{:?} after {:?}", next.since(now), now.since(start));
            now = next;
        }
    }
}

#[test]
fn one_apps_refusal_is_its_own_until_another_request_is_refused() {
    let after = Some(Duration::from_secs(30));
    let (now, refused) = (Moment::from_secs(100), failure(Verdict::RateLimited { after }));
    let left = |remaining| Failure {
        limits: RateLimitHeaders { remaining, ..RateLimitHeaders::default() },
        ..refused.clone()
    };
    let fresh = || RateLimiter::new(Budget::PerMinute(120), 0);

    let mut limiter = fresh();
    assert!(limiter.is_per_app_limit(&app(1), &refused, now));
    assert_eq!(limiter.failed(&app(1), &refused, now), []);
    assert_eq!(limiter.admit(Lane::Act, now), Admission::Go, "one request to others shows whose it is");
    assert_eq!(limiter.admit(Lane::Act, now), Admission::Later);
    limiter.succeeded(&app(2), RateLimitHeaders::default(), now);
    assert_eq!(limiter.admit(Lane::Act, now), Admission::Go);
    assert_eq!(limiter.admit(Lane::Act, now), Admission::Go);

    let mut limiter = fresh();
    limiter.failed(&app(1), &refused, now);
    assert!(!limiter.is_per_app_limit(&app(2), &refused, now));
    limiter.failed(&app(2), &refused, now);
    assert_eq!(limiter.admit(Lane::Act, now), Admission::At(now + Duration::from_secs(30)), "two are the account's");

    let mut limiter = fresh();
    limiter.failed(&app(1), &left(Some(20)), now);
    assert_eq!(limiter.admit(Lane::Act, now), Admission::Go);
    assert_eq!(limiter.admit(Lane::Act, now), Admission::Go, "the server says that requests are left");
    limiter.failed(&app(2), &left(Some(19)), now);
    assert!(!limiter.is_per_app_limit(&app(3), &left(Some(18)), now), "many apps' refusals are the account's");

    assert!(!fresh().is_per_app_limit(&app(1), &left(Some(0)), now));
    assert!(
        !fresh().is_per_app_limit(&Call::List, &refused, now) && !fresh().is_per_app_limit(&Call::Token, &refused, now)
    );
    let mut limiter = fresh();
    limiter.failed(&Call::List, &refused, now);
    assert!(
        !limiter.is_per_app_limit(&app(1), &refused, now + Duration::from_secs(31)),
        "the account was refused just now"
    );
}

#[test]
fn one_apps_refusal_that_nothing_disproves_ends_with_its_pause() {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    let now = Moment::from_secs(100);
    let after = Some(Duration::from_secs(30));
    limiter.failed(&app(1), &failure(Verdict::RateLimited { after }), now);
    let later = now + Duration::from_secs(31);
    assert_eq!(limiter.admit(Lane::Act, later), Admission::Go);
    assert_eq!(limiter.admit(Lane::Act, later), Admission::Go);
}

#[test]
fn a_forbidden_list_is_a_forbidden_account() {
    let (mut now, forbidden) = (Moment::from_secs(100), failure(Verdict::Forbidden));
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    let events = limiter.failed(&Call::List, &forbidden, now);
    assert_eq!(events, [LimiterEvent::AccountForbidden(Forbidden::List)]);
    let (start, mut probes) = (now, 0);
    while now < start + Duration::from_secs(600) {
        assert!(!matches!(limiter.admit(Lane::Act, now), Admission::Go));
        assert!(!matches!(limiter.admit(Lane::Confirm, now), Admission::Go));
        match limiter.admit(Lane::Observe, now) {
            Admission::Go => {
                probes += 1;
                assert_eq!(limiter.admit(Lane::Observe, now), Admission::Later, "one probe at a time");
                assert_eq!(limiter.failed(&Call::List, &forbidden, now), [], "it is told once");
            }
            Admission::At(at) => now = at,
            Admission::Later => panic!("no probe is on the wire"),
        }
    }
    assert!((20..=45).contains(&probes), "{probes} probes in ten minutes");
    assert_eq!(limiter.succeeded(&Call::List, RateLimitHeaders::default(), now), [LimiterEvent::AccountAllowed]);
    assert_eq!(limiter.admit(Lane::Act, now), Admission::Go);
}

#[track_caller]
fn forbidden_row(declared: usize, calls: &[Call], expected: Option<usize>) {
    let (now, forbidden) = (Moment::from_secs(100), failure(Verdict::Forbidden));
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    limiter.declared(declared);
    let first = calls.iter().position(|call| match call {
        Call::List => limiter.succeeded(call, RateLimitHeaders::default(), now).contains(&LimiterEvent::AccountAllowed),
        Call::Token | Call::TeamList | Call::Read(_) | Call::Act(_) => {
            !limiter.failed(call, &forbidden, now).is_empty()
        }
    });
    assert_eq!(first.map(|at| at + 1), expected);
}

#[test]
fn forbidden_apps_in_a_row_are_a_forbidden_account() {
    let (now, forbidden) = (Moment::from_secs(100), failure(Verdict::Forbidden));
    let apps = |n| (0..n).map(app).collect::<Vec<Call>>();
    forbidden_row(40, &apps(9), Some(5));
    forbidden_row(40, &apps(4), None);
    forbidden_row(3, &apps(3), Some(3));
    forbidden_row(1, &[app(0), app(0), app(0)], None);
    forbidden_row(40, &vec![app(0); 20], None);
    let mut interrupted = apps(4);
    interrupted.push(Call::List);
    interrupted.extend((4..8).map(app));
    forbidden_row(40, &interrupted, None);
    forbidden_row(40, &[Call::TeamList], None);
    forbidden_row(40, &[Call::Token], Some(1));

    // Reads of the list go on, since they are not what is forbidden; a call that is accepted ends it.
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    for n in 0..5 {
        limiter.failed(&app(n), &forbidden, now);
    }
    assert_eq!(limiter.account_forbidden(), Some(Forbidden::Calls));
    assert_eq!(limiter.admit(Lane::Observe, now), Admission::Go);
    assert_eq!(limiter.succeeded(&Call::List, RateLimitHeaders::default(), now), []);
    assert_eq!(limiter.account_forbidden(), Some(Forbidden::Calls));
    let at = limiter.forbidden_probe_at().unwrap();
    assert_eq!(limiter.admit(Lane::Act, now), Admission::At(at));
    assert_eq!(limiter.admit_forbidden_probe(now), Admission::At(at));
    assert_eq!(limiter.admit_forbidden_probe(at), Admission::Go);
    assert_eq!(limiter.admit_forbidden_probe(at), Admission::Later);
    assert_eq!(limiter.failed(&app(7), &forbidden, at), []);
    assert!(limiter.forbidden_probe_at().unwrap() > at);
    assert_eq!(limiter.succeeded(&app(8), RateLimitHeaders::default(), at), [LimiterEvent::AccountAllowed]);
    assert_eq!(limiter.admit(Lane::Act, at), Admission::Go);
}

/// A 401 is a refusal of the token, until two checks accept the token; and again a long time after that.
#[test]
fn a_401_is_believed_until_the_token_was_proven_twice() {
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    let verdict = |limiter: &mut RateLimiter, now| {
        let mut refused = Failure { http_status: Some(401), ..failure(Verdict::AccountBlocked) };
        limiter.judge(&mut refused, now);
        limiter.failed(&app(0), &refused, now);
        refused.verdict
    };
    let mut now = Moment::from_secs(100);
    for _ in 0..2 {
        assert_eq!(verdict(&mut limiter, now), Verdict::AccountBlocked);
        now = now + Duration::from_mins(1);
        limiter.succeeded(&Call::Token, RateLimitHeaders::default(), now);
    }
    // Then for its whole duration, except for an unreadable file.
    for _ in 0..20 {
        now = now + Duration::from_mins(9);
        assert_eq!(verdict(&mut limiter, now), Verdict::Forbidden);
        let mut unread = failure(Verdict::AccountBlocked);
        limiter.judge(&mut unread, now);
        assert_eq!(unread.verdict, Verdict::AccountBlocked);
    }
    assert!(!limiter.account_blocked());
    now = now + Duration::from_mins(10);
    assert_eq!(verdict(&mut limiter, now), Verdict::AccountBlocked);
    // Answers to requests that were on the wire prove nothing.
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    for _ in 0..20 {
        assert_eq!(verdict(&mut limiter, now), Verdict::AccountBlocked);
        limiter.succeeded(&Call::List, RateLimitHeaders::default(), now);
    }
}

#[test]
fn an_answer_that_locks_an_app_is_an_answer() {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    let now = Moment::from_secs(100);
    for n in 0..20 {
        assert_eq!(limiter.failed(&app(n), &failure(Verdict::Locked), now), [], "the breaker stays closed");
    }
}

#[test]
fn a_used_up_budget_pauses_and_says_so() {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    let now = Moment::from_secs(100);
    let seconds = |n| Some(Duration::from_secs(n));
    let none_left =
        |reset| RateLimitHeaders { remaining: Some(0), reset: seconds(reset), ..RateLimitHeaders::default() };
    let said = LimiterEvent::Paused {
        pause: Duration::from_secs(30),
        cause: PauseCause::Exhausted,
        bounded: false,
        first: true,
    };
    assert_eq!(limiter.succeeded(&Call::List, none_left(30), now), [said]);
    assert_eq!(limiter.succeeded(&app(1), none_left(30), now), [], "it is told once");
    assert_eq!(limiter.pause_cause(now), Some(PauseCause::Exhausted));
    assert_eq!(limiter.held_until(now), Some(now + Duration::from_secs(30)));
    let bounded = RateLimitHeaders { bounded: true, ..none_left(3600) };
    let events = limiter.succeeded(&app(1), bounded, now + Duration::from_secs(31));
    assert!(matches!(events[..], [LimiterEvent::Paused { bounded: true, .. }]), "{events:?}");
}

#[test]
fn the_servers_headers_lower_the_rate_until_their_window_ends() {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    let now = Moment::from_secs(10);
    let seconds = |n| Some(Duration::from_secs(n));
    limiter.succeeded(
        &Call::List,
        RateLimitHeaders { limit: Some(180), remaining: Some(150), reset: seconds(50), ..RateLimitHeaders::default() },
        now,
    );
    assert_eq!(limiter.requests_per_minute(now), Some(120.0));
    // Others use the account: what remains is spread over the rest of the window.
    limiter.succeeded(
        &Call::List,
        RateLimitHeaders { limit: Some(180), remaining: Some(20), reset: seconds(30), ..RateLimitHeaders::default() },
        now,
    );
    assert_eq!(limiter.requests_per_minute(now), Some(40.0));
    assert_eq!(limiter.requests_per_minute(Moment::from_secs(41)), Some(120.0));
    // The limit itself went down.
    limiter.succeeded(
        &Call::List,
        RateLimitHeaders { limit: Some(60), remaining: Some(59), reset: seconds(30), ..RateLimitHeaders::default() },
        now,
    );
    assert_eq!(limiter.requests_per_minute(now), Some(40.0));
    // Nothing remains: wait for the reset.
    limiter.succeeded(
        &Call::List,
        RateLimitHeaders { limit: Some(180), remaining: Some(0), reset: seconds(7), ..RateLimitHeaders::default() },
        now,
    );
    assert_eq!(limiter.admit(Lane::Act, now), Admission::At(Moment::from_secs(17)));
}

#[test]
fn five_different_failures_open_the_breaker_and_one_answer_closes_it() {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    let (now, lost) = (Moment::from_secs(100), failure(Verdict::LostAnswer));
    for _ in 0..20 {
        assert_eq!(limiter.failed(&app(0), &lost, now), [], "one app is that app's failure");
    }
    for n in 1..4 {
        assert_eq!(limiter.failed(&app(n), &lost, now), []);
    }
    assert_eq!(limiter.failed(&app(4), &lost, now), [LimiterEvent::BreakerOpened]);
    let Admission::At(probe) = limiter.admit(Lane::Act, now) else { panic!("no probe is due yet") };
    assert_eq!(limiter.admit(Lane::Observe, probe), Admission::Go);
    assert_eq!(limiter.admit(Lane::Act, probe), Admission::Later, "one probe at a time");
    assert_eq!(limiter.failed(&Call::List, &lost, probe), []);
    assert!(matches!(limiter.admit(Lane::Observe, probe), Admission::At(at) if at > probe));
    assert_eq!(limiter.succeeded(&Call::List, RateLimitHeaders::default(), probe), [LimiterEvent::BreakerClosed]);
    assert_eq!(limiter.admit(Lane::Act, probe), Admission::Go);
}

#[test]
fn a_refused_token_blocks_everything_but_its_own_probe() {
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    let (now, refused) = (Moment::from_secs(100), failure(Verdict::AccountBlocked));
    assert_eq!(limiter.failed(&app(1), &refused, now), [LimiterEvent::AccountBlocked]);
    assert_eq!(limiter.failed(&app(2), &refused, now), [], "one line for the cause");
    assert_eq!(limiter.admit(Lane::Act, now), Admission::Later);
    let at = limiter.token_probe_at().unwrap();
    assert!(at > now);
    assert_eq!(limiter.admit_token_probe(at), Admission::Go);
    assert_eq!(limiter.admit_token_probe(at), Admission::Later);
    limiter.failed(&Call::List, &refused, at);
    assert!(limiter.token_probe_at().unwrap() > at);
    limiter.token_changed(at);
    assert_eq!(limiter.admit_token_probe(at), Admission::Go, "a new token is tried at once");
    assert_eq!(limiter.succeeded(&Call::List, RateLimitHeaders::default(), at), [LimiterEvent::AccountUnblocked]);
    assert_eq!(limiter.admit(Lane::Act, at), Admission::Go);
}

#[test]
fn a_token_probe_waits_for_the_pause_that_was_asked_for() {
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    let now = Moment::from_secs(100);
    limiter.failed(&Call::List, &failure(Verdict::AccountBlocked), now);
    let at = limiter.token_probe_at().unwrap();
    assert_eq!(limiter.admit_token_probe(at), Admission::Go);
    let after = Some(Duration::from_secs(7));
    limiter.failed(&Call::List, &failure(Verdict::RateLimited { after }), at);
    assert_eq!(limiter.admit_token_probe(at), Admission::At(at + Duration::from_secs(7)));
}

#[test]
fn a_token_that_is_good_for_nothing_but_its_probe_is_probed_ever_more_slowly() {
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    let mut now = Moment::from_secs(100);
    let mut waits = Vec::new();
    for _ in 0..8 {
        limiter.failed(&Call::List, &failure(Verdict::AccountBlocked), now);
        let at = limiter.token_probe_at().unwrap();
        waits.push(at.since(now));
        assert_eq!(limiter.admit_token_probe(at), Admission::Go);
        limiter.succeeded(&Call::List, RateLimitHeaders::default(), at);
        now = at;
    }
    assert!(waits[7] >= ACCOUNT_PROBES.cap / 2, "{waits:?}");
}

#[test]
fn calls_for_a_few_apps_go_before_every_read() {
    let s = Moment::from_secs;
    let limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    let order = |waiting, now| limiter.order(&waiting, now).collect::<Vec<_>>();
    let few = Waiting { act: Some(s(0)), calls: 10, confirm: Some(s(98)), observe: Some(s(90)) };
    for now in [100, 103, 105, 1_000] {
        assert_eq!(order(few, s(now))[0], Lane::Act, "however long reads have waited");
    }
    // Aging orders the reads among themselves.
    assert_eq!(order(few, s(100))[1..], [Lane::Confirm, Lane::Observe]);
    let overdue = Waiting { confirm: Some(s(104)), ..few };
    assert_eq!(order(overdue, s(105))[1..], [Lane::Observe, Lane::Confirm]);
    assert_eq!(order(Waiting { act: None, calls: 0, ..overdue }, s(105)), [Lane::Observe, Lane::Confirm]);
    assert_eq!(order(Waiting::default(), s(105)), []);
}

#[test]
fn of_a_longer_bulk_one_token_in_four_is_for_reads() {
    let s = Moment::from_secs;
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    let waiting = Waiting { act: Some(s(0)), calls: 11, confirm: Some(s(99)), observe: Some(s(0)) };
    let mut sent = Vec::new();
    for _ in 0..8 {
        let lane = limiter.order(&waiting, s(100)).next().unwrap();
        assert_eq!(limiter.admit(lane, s(100)), Admission::Go);
        sent.push(lane);
    }
    let quarter = [Lane::Act, Lane::Act, Lane::Act, Lane::Confirm];
    assert_eq!(sent, [quarter, quarter].concat(), "confirmations before routine reads");
    let waiting = Waiting { confirm: None, observe: None, ..waiting };
    assert_eq!(limiter.order(&waiting, s(100)).collect::<Vec<_>>(), [Lane::Act], "calls take what reads do not");
}

#[test]
fn observation_counts_the_reads_of_unlisted_apps() {
    let limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    let rate = |pages, unlisted, seconds| limiter.observation_rate(pages, unlisted, Duration::from_secs(seconds));
    for ((pages, unlisted, seconds), expected) in
        [((1, 0, 60), 1.0), ((1, 35, 60), 36.0), ((1, 35, 10), 60.0), ((30, 200, 60), 60.0), ((100, 9, 100), 60.0)]
    {
        let rate = rate(pages, unlisted, seconds);
        assert!((rate - expected).abs() < 0.01, "{pages} {unlisted} {seconds}: {rate}");
    }
}

#[test]
fn many_pages_stretch_the_interval() {
    let limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    assert_eq!(limiter.list_interval(3, Duration::from_secs(60)), Duration::from_secs(60));
    assert_eq!(limiter.list_interval(100, Duration::from_secs(60)), Duration::from_secs(100));
}

proptest! {
    #[test]
    fn never_more_than_rate_and_burst(budget in 1..1_000_u32, gaps in proptest::collection::vec(0..3_000_u64, 1..300)) {
        let mut limiter = RateLimiter::new(Budget::PerMinute(budget), 0);
        let mut sent = Vec::new();
        let mut now = Moment::START;
        for (index, gap) in gaps.into_iter().enumerate() {
            now = now + Duration::from_millis(gap);
            if limiter.admit(Lane::ALL[index % 3], now) == Admission::Go {
                sent.push(now);
            }
        }
        let burst = (f64::from(budget) / 12.0).max(1.0);
        for (index, first) in sent.iter().enumerate() {
            for (later, last) in sent.iter().enumerate().skip(index) {
                let most = burst + f64::from(budget) * last.since(*first).as_secs_f64() / 60.0 + 1e-6;
                let count = f64::from(u32::try_from(later - index + 1).unwrap());
                prop_assert!(count <= most + 1.0, "{count} in {:?}", last.since(*first));
            }
        }
    }
}

#[test]
fn a_probe_that_one_apps_rate_limit_refuses_is_repeated() {
    let now = Moment::from_secs(100);
    let refused = failure(Verdict::RateLimited { after: Some(Duration::from_secs(30)) });
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    for n in 0..5 {
        limiter.failed(&app(n), &failure(Verdict::Retry), now);
    }
    let at = probe(&mut limiter, now);
    limiter.failed(&app(1), &refused, at);
    assert!(limiter.breaker_open());
    assert_eq!(limiter.admit(Lane::Observe, at), Admission::Go);

    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    for n in 0..5 {
        limiter.failed(&app(n), &failure(Verdict::Forbidden), now);
    }
    let at = limiter.forbidden_probe_at().unwrap();
    assert_eq!(limiter.admit_forbidden_probe(at), Admission::Go);
    limiter.failed(&app(1), &refused, at);
    assert_eq!(limiter.forbidden_probe_at(), Some(at));
}

#[test]
fn a_refused_token_does_not_end_the_probes_of_a_forbidden_account() {
    let now = Moment::from_secs(100);
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    for n in 0..5 {
        limiter.failed(&app(n), &failure(Verdict::Forbidden), now);
    }
    let at = limiter.forbidden_probe_at().unwrap();
    assert_eq!(limiter.admit_forbidden_probe(at), Admission::Go);
    limiter.failed(&app(1), &failure(Verdict::AccountBlocked), at);
    limiter.succeeded(&Call::Token, RateLimitHeaders::default(), at);
    assert!(limiter.forbidden_probe_at().unwrap() > at);
}

#[test]
fn only_failures_in_a_row_open_the_breaker() {
    let (now, lost) = (Moment::from_secs(100), failure(Verdict::LostAnswer));
    let answers: [fn(&mut RateLimiter, Moment) -> Vec<LimiterEvent>; 3] = [
        |limiter, now| limiter.succeeded(&app(9), RateLimitHeaders::default(), now),
        |limiter, now| limiter.failed(&app(9), &failure(Verdict::NotFound), now),
        |limiter, now| limiter.failed(&app(9), &failure(Verdict::Forbidden), now),
    ];
    for answer in answers {
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        for _ in 0..10 {
            for n in 0..4 {
                assert_eq!(limiter.failed(&app(n), &lost, now), []);
            }
            answer(&mut limiter, now);
        }
        assert!(!limiter.breaker_open());
        // Lists concern no app: each counts.
        let events: Vec<LimiterEvent> = (0..5).flat_map(|_| limiter.failed(&Call::List, &lost, now)).collect();
        assert_eq!((events, limiter.breaker_open()), (vec![LimiterEvent::BreakerOpened], true));
    }
}

#[test]
fn the_list_is_a_probe_while_the_breaker_is_open_or_the_list_is_forbidden() {
    let now = Moment::from_secs(100);
    let after = |calls: &[Call], verdict| {
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        for call in calls {
            limiter.failed(call, &failure(verdict), now);
        }
        limiter.list_is_a_probe()
    };
    let apps: Vec<Call> = (0..5).map(app).collect();
    assert!(!after(&[], Verdict::Retry) && !after(&apps[..4], Verdict::Retry));
    assert!(after(&apps, Verdict::Retry));
    assert!(after(&[Call::List], Verdict::Forbidden));
    assert!(!after(&apps, Verdict::Forbidden), "only calls are forbidden");
}

#[test]
fn a_forbidden_account_without_pending_requests_is_forgotten() {
    let (now, id) = (Moment::from_secs(100), |n: usize| format!("app-{n}").parse::<AppId>().unwrap());
    let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
    for n in 0..5 {
        limiter.failed(&app(n), &failure(Verdict::Forbidden), now);
    }
    assert!(limiter.is_known_forbidden(&id(0)) && !limiter.is_known_forbidden(&id(5)));
    limiter.nothing_forbidden_is_pending();
    assert_eq!((limiter.account_forbidden(), limiter.is_known_forbidden(&id(0))), (None, false));
    assert_eq!(limiter.admit(Lane::Act, now), Admission::Go);
}

#[test]
fn the_probe_of_a_forbidden_account_is_repeated_later_if_it_proves_nothing() {
    let now = Moment::from_secs(100);
    for verdict in [Verdict::LostAnswer, Verdict::NotFound, Verdict::Locked] {
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        for n in 0..5 {
            limiter.failed(&app(n), &failure(Verdict::Forbidden), now);
        }
        let at = limiter.forbidden_probe_at().unwrap();
        assert_eq!(limiter.admit(Lane::Act, at), Admission::Later, "only the probe goes out");
        assert_eq!(limiter.admit_forbidden_probe(at), Admission::Go);
        assert_eq!(limiter.admit(Lane::Act, at), Admission::Later);
        limiter.failed(&app(1), &failure(verdict), at);
        assert!(limiter.forbidden_probe_at().unwrap() > at, "{verdict:?}");
    }
}

#[test]
fn the_last_count_of_remaining_requests_is_published() {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    assert_eq!(limiter.remaining(), None);
    limiter.succeeded(
        &Call::List,
        RateLimitHeaders { remaining: Some(7), ..RateLimitHeaders::default() },
        Moment::START,
    );
    limiter.succeeded(&Call::List, RateLimitHeaders::default(), Moment::START);
    assert_eq!(limiter.remaining(), Some(7));
}
