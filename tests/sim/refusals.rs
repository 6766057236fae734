//! Refusals of every kind, apps that the list does not show, and pauses: what they cost, and whom they delay.

use std::time::Duration;

use campos_operator::budget::Budget;
use campos_operator::operator::Settings;
use campos_operator::platform::{Answered, Page, PageRequest, Platform, Seen};
use campos_operator::reconcile::app::AppId;
use campos_operator::reconcile::outcome::{Failure, RateLimitHeaders, Receipt, Verdict};
use campos_operator::reconcile::reason::Reason;
use campos_operator::reconcile::state::Action;
use campos_operator::simulator::faults::{Body, Endpoint, Fault, Faults, Rule};
use campos_operator::simulator::port::{InProcess, lock};
use campos_operator::simulator::world::{Config, Logged};

use crate::bulk::{Account, count, id, on_a_paused_clock, sent_at};
use crate::dice::Dice;
use crate::model::manifest;

const DEFAULT: Budget = Budget::PerMinute(120);

fn settings(budget: Budget) -> Settings {
    Settings { budget, ..Settings::default() }
}

fn without_limit() -> Config {
    Config { account_limit: None, ..Config::default() }
}

fn refusal(status: u16, after: Option<&str>) -> Fault {
    let headers = after.map(|after| ("retry-after".to_owned(), after.to_owned())).into_iter().collect();
    Fault { status: Some(status), headers, ..Fault::default() }
}

/// Only requests about one app meet the fault.
fn only(index: usize, fault: Fault) -> Faults {
    let rule = Rule { app: id(index).parse().ok(), ..Rule::new(Endpoint::Any, fault) };
    Faults { rules: vec![rule], revive: Vec::new() }
}

fn reasons(account: &Account) -> Vec<Reason> {
    account.board.apps().iter().map(|app| app.reason()).collect()
}

/// Whatever refuses all requests: it costs few of them, fewer with time, and ends soon after it does.
#[test]
fn a_refusal_of_everything_costs_probes() {
    let kinds = [
        (401, None, Reason::AccountBlocked),
        (402, None, Reason::AccountForbidden),
        (403, None, Reason::AccountForbidden),
        (451, None, Reason::AccountForbidden),
        (403, Some("1"), Reason::RateLimited),
        (429, Some("1"), Reason::RateLimited),
        (429, Some("0"), Reason::RateLimited),
        (429, None, Reason::RateLimited),
        (503, Some("1"), Reason::RateLimited),
        (503, None, Reason::ApiUnavailable),
    ];
    for (status, after, reason) in kinds {
        for budget in [DEFAULT, Budget::Unlimited] {
            on_a_paused_clock(async {
                let account = Account::begin(40, 40, settings(budget), without_limit());
                account.faults(Faults::always(Endpoint::Any, refusal(status, after)));
                let (first, second) = (account.pass(25).await.len(), account.pass(25).await.len());
                let said = format!("{status} {after:?} {budget:?}: {first} and {second} requests in 25 s each");
                assert!(first + second <= 20 && second <= first && second > 0, "{said}");
                assert!(reasons(&account).contains(&reason), "{said}: {:?}", reasons(&account));
                account.faults(Faults::default());
                // At most the duration of the failures.
                account.pass(50 + 60).await;
                assert!(account.all_stopped(), "{said}: {:?}", reasons(&account));
            });
        }
    }
}

/// Lists and reads are allowed, calls are not: one probe, not a call for each app.
#[test]
fn calls_that_are_forbidden_one_after_another_are_the_accounts() {
    on_a_paused_clock(async {
        let account = Account::begin(40, 40, settings(DEFAULT), without_limit());
        account.faults(Faults::always(Endpoint::Stop, refusal(403, None)));
        account.pass(60).await;
        let [lists, _, stops, _] = count(&account.pass(600).await);
        assert!((5..=45).contains(&stops), "{stops} calls in ten minutes");
        assert!(lists >= 9, "observation goes on: {lists}");
        let known = reasons(&account);
        assert!(known.iter().all(|reason| *reason == Reason::AccountForbidden), "{known:?}");
        let daemon = account.board.daemon();
        assert!(daemon.governor.account_forbidden && daemon.governor.next_probe_at.is_some());
        account.faults(Faults::default());
        account.pass(90).await;
        assert!(account.all_stopped());
    });
}

/// A refusal of one app concerns only that app, for any duration.
#[test]
fn one_forbidden_app_is_not_the_account() {
    on_a_paused_clock(async {
        let mut account = Account::begin(40, 1, settings(DEFAULT), without_limit());
        account.faults(only(0, refusal(403, None)));
        let [_, _, stops, _] = count(&account.pass(600).await);
        assert!((5..=12).contains(&stops), "once an interval: {stops}");
        account.edit(1, "Stopped");
        assert!(sent_at(&account.pass(1).await, 1).is_some(), "others are not held");
        let forbidden = reasons(&account).into_iter().filter(|reason| *reason == Reason::Forbidden).count();
        assert_eq!(forbidden, 1);
    });
}

/// The generator: one app's requests are refused by a rate limit, in any of its forms; 59 others are edited at the same
/// time.
#[test]
fn one_apps_rate_limit_does_not_delay_the_others() {
    for seed in 0..40 {
        on_a_paused_clock(async {
            let mut dice = Dice::new(seed);
            let status = *dice.pick(&[429, 503, 403]);
            let after = *dice.pick(&["1", "30", "300", "100000"]);
            let budget = *dice.pick(&[Budget::PerMinute(600), Budget::Unlimited]);
            let mut account = Account::begin(60, 0, settings(budget), without_limit());
            account.pass(130).await;
            account.faults(only(0, refusal(status, Some(after))));
            account.edit(0, "Stopped");
            let log = account.pass(1 + dice.below(3)).await;
            let (edited, refused) = (account.clock.wall(), log.iter().filter(|logged| logged.status == status).count());
            assert!(refused == 1 || (after == "1" && refused <= 3), "seed {seed}: {status} {after}: {refused}");
            (1..60).for_each(|index| account.edit(index, "Stopped"));
            let log = account.pass(20).await;
            for index in 1..60 {
                let sent = sent_at(&log, index).unwrap_or_else(|| panic!("seed {seed}: no call on app {index}"));
                let waited = sent.duration_since(edited).as_secs_f64();
                assert!(waited <= 6.0, "seed {seed}: {status} {after} {budget:?}: app {index} waited {waited} s");
            }
            // Its own pause is obeyed, and bounded.
            let own: Vec<&Logged> = log.iter().filter(|logged| logged.app == id(0).parse::<AppId>().ok()).collect();
            let most = if after == "1" { 10 } else { 0 };
            assert!(own.len() <= most, "seed {seed}: {status} {after}: {own:?}");
            let shown = account.board.app("app-0").unwrap();
            assert!(after == "1" || shown.reason() == Reason::RateLimited, "seed {seed}: {}", shown.reason());
        });
    }
}

/// An outage of any length: the next try comes after no longer than it lasted, at most a minute.
#[test]
fn a_short_outage_causes_a_short_wait() {
    for seed in 0..60 {
        on_a_paused_clock(async {
            let mut dice = Dice::new(seed);
            let fault = match dice.below(4) {
                0 => refusal(503, None),
                1 => refusal(423, None),
                2 => refusal(409, None),
                _ => Fault { refuse: true, ..Fault::default() },
            };
            let on = *dice.pick(&[Endpoint::Stop, Endpoint::Any]);
            let mut account = Account::begin(8, 0, Settings { salt: seed, ..settings(DEFAULT) }, without_limit());
            account.pass(130).await;
            account.faults(Faults::always(on, fault.clone()));
            account.edit(0, "Stopped");
            let lasted = 1 + dice.below(200);
            account.pass(lasted).await;
            account.faults(Faults::default());
            let ended = account.clock.wall();
            let log = account.pass(130).await;
            let sent = sent_at(&log, 0).unwrap_or_else(|| panic!("seed {seed}: no call"));
            let waited = sent.duration_since(ended);
            // Where everything failed, the probe of the breaker comes before the app's own try.
            let most = lasted.clamp(5, 60) + if on == Endpoint::Any { 30 } else { 0 };
            let most = jiff::SignedDuration::from_secs(i64::try_from(most + 1).unwrap());
            assert!(waited <= most, "seed {seed}: {waited} after {lasted} s of {on:?} {fault:?}");
        });
    }
}

/// The call of an edit takes the next token, with any number of apps that the list does not show.
#[test]
fn routine_reads_delay_no_call_and_take_half_of_the_budget() {
    for seed in 0..20 {
        on_a_paused_clock(async {
            let mut dice = Dice::new(seed);
            let unlisted = 20 + usize::try_from(dice.below(200)).unwrap();
            let interval = Duration::from_secs(*dice.pick(&[10, 30, 60]));
            let mut account =
                Account::begin(unlisted + 10, 0, Settings { interval, ..settings(DEFAULT) }, without_limit());
            for index in 0..unlisted {
                lock(&account.world).give_to_team(&id(index).parse().unwrap(), "team");
            }
            account.pass(300).await;
            let log = account.pass(600).await;
            let [lists, looks, ..] = count(&log);
            assert!(lists + looks <= 600 + 20, "seed {seed}: {lists} lists, {looks} reads in ten minutes");
            let least = 600 / interval.as_secs();
            assert!(lists as u64 >= least / 2, "seed {seed}: the list does not starve: {lists}");
            for index in 0..unlisted {
                let read = log.iter().any(|logged| logged.app == id(index).parse::<AppId>().ok());
                assert!(read, "seed {seed}: app {index} of {unlisted} was not read in ten minutes");
            }
            // Some of them, and some that are listed.
            for index in [0, 1, 2, unlisted, unlisted + 1] {
                account.edit(index, "Stopped");
            }
            let edited = account.clock.wall();
            let log = account.pass(20).await;
            for index in [0, 1, 2, unlisted, unlisted + 1] {
                let waited = sent_at(&log, index).unwrap().duration_since(edited).as_secs_f64();
                assert!(waited <= 3.0, "seed {seed}: {unlisted} unlisted: app {index} waited {waited} s");
            }
        });
    }
}

/// While a long bulk waits, reads get one token in four, and the newest edit goes first.
#[test]
fn a_bulk_leaves_reads_a_quarter_and_an_edit_goes_before_it() {
    on_a_paused_clock(async {
        let mut account = Account::begin(400, 300, settings(DEFAULT), without_limit());
        account.pass(40).await;
        let log = account.pass(60).await;
        let [lists, looks, stops, _] = count(&log);
        assert!(lists + looks <= log.len() / 4 + 1 && stops >= 88, "{:?}", count(&log));
        // A bulk of 50 in small pieces, as events bring them, and a newer edit of one app.
        (300..350).for_each(|index| account.edit(index, "Stopped"));
        account.pass(2).await;
        account.edit(399, "Stopped");
        let edited = account.clock.wall();
        let log = account.pass(5).await;
        let waited = sent_at(&log, 399).unwrap().duration_since(edited).as_secs_f64();
        assert!(waited <= 1.6, "{waited}");
    });
}

/// A list that is not at this URL: no app is missing, and no app is read singly.
#[test]
fn while_the_list_cannot_be_read_no_app_is_missing() {
    for on in [Endpoint::Any, Endpoint::List, Endpoint::Get] {
        on_a_paused_clock(async {
            let account = Account::begin(10, 10, settings(DEFAULT), without_limit());
            account.faults(Faults::always(on, refusal(404, None)));
            let log = account.pass(600).await;
            let missing = reasons(&account).into_iter().filter(|reason| *reason == Reason::AppNotFound).count();
            assert_eq!(missing, 0, "{on:?}");
            assert!(log.len() <= 60 + 20, "{on:?}: {} requests in ten minutes", log.len());
            account.faults(Faults::default());
            account.pass(60).await;
            assert!(account.all_stopped(), "{on:?}");
        });
    }
    // A single read that finds nothing, between two lists, is not believed once the list is gone, too.
    on_a_paused_clock(async {
        let account = Account::begin(10, 0, settings(DEFAULT), without_limit());
        lock(&account.world).remove(&id(0).parse().unwrap());
        account.pass(90).await;
        assert_eq!(account.board.app("app-0").unwrap().reason(), Reason::AppNotFound);
        account.faults(Faults::always(Endpoint::Any, refusal(404, None)));
        account.pass(120).await;
        assert_ne!(account.board.app("app-0").unwrap().reason(), Reason::AppNotFound);
        account.faults(Faults::default());
        account.pass(90).await;
        assert_eq!(account.board.app("app-0").unwrap().reason(), Reason::AppNotFound);
    });
}

/// Every pause has a cause and an end in the status, its apps show it, and the history has it once.
#[test]
fn a_pause_is_published_with_its_end_and_logged_once() {
    on_a_paused_clock(async {
        let mut account = Account::begin(40, 0, settings(DEFAULT), without_limit());
        account.pass(130).await;
        let used_up = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")];
        let headers = used_up.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        account.faults(Faults::always(Endpoint::Any, Fault { headers, ..Fault::default() }));
        let reported = account.board.history(None, 1_000).len();
        account.edit(0, "Stopped");
        account.pass(1).await;
        (1..40).for_each(|index| account.edit(index, "Stopped"));
        account.pass(2).await;
        let governor = account.board.daemon().governor;
        let until = governor.paused_until.unwrap();
        let left = until.duration_since(account.clock.wall()).as_secs_f64();
        assert!(governor.paused && governor.pause_cause.is_some() && (25.0..=30.0).contains(&left), "{governor:?}");
        for index in 1..40 {
            let app = account.board.app(&format!("app-{index}")).unwrap();
            assert_eq!((app.reason(), app.next_look_at), (Reason::RateLimited, Some(until)), "app {index}");
        }
        let entries = account.board.history(None, 1_000);
        let about: Vec<_> = entries[..entries.len() - reported].iter().map(|entry| entry.app.as_deref()).collect();
        assert_eq!(about.iter().filter(|app| app.is_none()).count(), 1, "{about:?}");
        assert!(about.iter().flatten().all(|app| *app == "app-0"), "no entry for each waiting app: {about:?}");
        account.faults(Faults::default());
        account.pass(120).await;
        assert!(account.all_stopped());
        assert!(!account.board.daemon().governor.paused);
        let entries = account.board.history(Some("app-1"), 10);
        assert!(entries.iter().all(|entry| entry.after.reason.as_deref() != Some("RateLimited")), "{entries:?}");
    });
}

/// A platform that refuses the lists of teams.
struct ClosedTeams(InProcess, Verdict);

impl Platform for ClosedTeams {
    async fn list(&self, page: PageRequest) -> Result<Answered<Page>, Failure> {
        if page.team.is_none() {
            return self.0.list(page).await;
        }
        let limits = RateLimitHeaders::default();
        Err(Failure { verdict: self.1, http_status: Some(403), message: "no".into(), limits, repeats: 0 })
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        self.0.get(id).await
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        self.0.act(action, id).await
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        self.0.whoami().await
    }
}

/// A list of a team that may not be read concerns that team alone: not the account, and not the pace of the others.
#[test]
fn a_refused_list_of_a_team_is_not_the_account() {
    for verdict in [Verdict::Forbidden, Verdict::NotFound, Verdict::Unexpected] {
        on_a_paused_clock(async {
            let texts = (0..10).map(|index| manifest(&format!("app-{index}"), &id(index), "Running", "")).collect();
            let settings = Settings { teams: vec!["team".into()], ..settings(DEFAULT) };
            let mut account = Account::through(texts, settings, without_limit(), |world| ClosedTeams(world, verdict));
            account.pass(300).await;
            account.edit(0, "Stopped");
            let log = account.pass(1).await;
            assert!(sent_at(&log, 0).is_some(), "{verdict:?}: calls are not held");
            let [lists, ..] = count(&account.pass(600).await);
            assert!((8..=45).contains(&lists), "{verdict:?}: {lists} lists in ten minutes");
            let daemon = account.board.daemon();
            assert!(!daemon.governor.account_forbidden, "{verdict:?}");
            assert!(daemon.observation.incomplete.is_some(), "{verdict:?}");
            let reported = account.board.history(None, 1_000);
            assert!(reported.iter().all(|entry| entry.app.is_some()), "{verdict:?}: {reported:?}");
        });
    }
}

/// Lists and single reads fail, each time: what the lists cost does not multiply by the apps.
#[test]
fn lists_that_fail_do_not_repeat_single_reads_that_fail() {
    let kinds = [(423, None), (409, None), (422, None), (200, Some(Body::Html)), (302, None), (404, None)];
    for (apps, (status, body)) in [5, 40].into_iter().flat_map(|apps| kinds.map(|kind| (apps, kind))) {
        on_a_paused_clock(async {
            let account = Account::begin(apps, apps, settings(DEFAULT), without_limit());
            let fault = Fault { status: Some(status), body, ..Fault::default() };
            account.faults(Faults::always(Endpoint::Any, fault));
            account.pass(180).await;
            let [lists, looks, ..] = count(&account.pass(600).await);
            let said = format!("{apps} apps, {status} {body:?}: {lists} lists and {looks} single reads in ten minutes");
            assert!(looks <= apps * 11 && lists <= 45, "{said}");
            account.faults(Faults::default());
            account.pass(150).await;
            assert!(account.all_stopped(), "{said}");
        });
    }
}

/// The token is good, and calls are answered with 401 all the same: on all apps, or on one of them.
#[test]
fn a_good_token_that_may_not_call_is_not_a_bad_token() {
    on_a_paused_clock(async {
        let account = Account::begin(40, 40, settings(DEFAULT), without_limit());
        account.faults(Faults::always(Endpoint::Stop, refusal(401, None)));
        account.pass(120).await;
        let [lists, _, stops, _] = count(&account.pass(1200).await);
        assert!((10..=90).contains(&stops) && lists >= 18, "{stops} calls and {lists} lists in twenty minutes");
        let known = reasons(&account);
        assert!(known.iter().all(|reason| *reason == Reason::AccountForbidden), "{known:?}");
        account.faults(Faults::default());
        account.pass(90).await;
        assert!(account.all_stopped());
    });
    on_a_paused_clock(async {
        let mut account = Account::begin(40, 20, settings(DEFAULT), without_limit());
        account.faults(only(0, refusal(401, None)));
        account.pass(180).await;
        assert_eq!(account.board.app("app-0").unwrap().reason(), Reason::Forbidden);
        let [_, _, stops, _] = count(&account.pass(1200).await);
        assert!(stops <= 25, "once an interval: {stops}");
        account.edit(39, "Stopped");
        assert!(sent_at(&account.pass(1).await, 39).is_some(), "others are not held");
    });
}
