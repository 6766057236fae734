//! The status page in a real browser: headless Chromium, through `chromedriver`.
//!
//! Ignored by default, so that `cargo test` passes, and lists what it ignored, on a machine without a browser.
//! `.ci/run` installs what is needed and runs `cargo test --test browser -- --ignored`. `AXE_JS` is axe-core's
//! `axe.min.js`; with `BROWSER_SHOTS=DIR` each stage leaves a picture there.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod agreement;
mod browser;
mod pretend;

#[path = "../it/harness.rs"]
#[allow(dead_code, reason = "shared with the other tests in real time, which use the rest")]
mod harness;

use std::net::SocketAddr;
use std::time::Duration;

use campos_operator::simulator::world::Config;
use serde_json::json;

use self::browser::{Browser, Scheme};
use self::harness::{A, B, Daemon, Demo, Manifests, Simulator, binary, manifest};
use self::pretend::Pretend;

/// The rules of axe-core that the page has to meet.
const LOOKS: [(u32, u32, Scheme); 4] =
    [(1280, 900, Scheme::Light), (1280, 900, Scheme::Dark), (390, 844, Scheme::Light), (390, 844, Scheme::Dark)];

/// The stream of events is there.
const LIVE: &str = "document.body.dataset.link === 'live'";

/// The names in the list, from top to bottom.
const NAMES: &str = "[...document.querySelectorAll('.rows [role=row]')].map((row) => row.dataset.name).join()";

/// The operator on the manifests, listening on a given address.
fn daemon(simulator: &Simulator, manifests: &Manifests, listen: SocketAddr) -> Daemon {
    let mut command = binary();
    command.args(["run", "--interval", "1s", "--api-budget", "unlimited", "--listen", &listen.to_string()]);
    command.args(["--api-url", &simulator.url(), "--manifests"]).arg(manifests.path());
    Daemon::spawn(command)
}

/// `BROWSER_SHOTS=deploy` takes the picture of README.md again.
#[tokio::test]
#[ignore = "needs chromium and chromedriver: .ci/run installs and runs it"]
async fn the_picture_of_the_readme_is_that_of_the_demo() {
    let demo = Demo::start();
    demo.wait_for("nothing is left to do, but some apps are held");
    let page = Browser::start().await;
    page.look(1280, 900, Scheme::Light).await;
    page.open(&format!("http://{}", demo.address())).await;
    page.until(LIVE).await;
    page.until("document.getElementById('fleet_verdict').textContent.includes(' settled; ')").await;
    let headline = page.ask("document.getElementById('fleet_verdict').textContent").await;
    let readme = include_str!("../../README.md");
    assert!(readme.contains(headline.as_str().unwrap()), "the text of the picture in README.md is not {headline}");
    // The next 24 hours, as the forecast of the daemon has them.
    page.until(
        "document.querySelectorAll('#next_list li').length > 0 && !document.getElementById('next_section').hidden",
    )
    .await;
    page.until("document.querySelectorAll('#next_chart [data-state]').length > 0").await;
    page.axe().await;
    page.shot("status-page").await;
    page.end().await;
}

#[tokio::test]
#[ignore = "needs chromium, chromedriver and axe-core: .ci/run installs and runs it"]
async fn the_page_shows_the_fleet_and_follows_it() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("ticket-bot", A, "Stopped"), ("welcome-bot", B, "Running")]);
    let mut running = daemon(&simulator, &manifests, SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = running.address();
    let origin = format!("http://{address}");

    let page = Browser::start().await;
    page.look(1280, 900, Scheme::Light).await;
    page.open(&origin).await;
    page.until(LIVE).await;
    page.until("document.getElementById('fleet_verdict').textContent === 'All 2 apps are settled.'").await;
    assert_eq!(page.ask(NAMES).await, "ticket-bot,welcome-bot");
    page.shot("fleet").await;

    // Search and filters, and the address that remembers them.
    page.keys("/").await;
    page.keys("welc").await;
    page.until(&format!("{NAMES} === 'welcome-bot'")).await;
    page.until("document.getElementById('list_count').textContent === '1 of 2'").await;
    page.keys(browser::ESCAPE).await;
    page.until(&format!("{NAMES} === 'ticket-bot,welcome-bot'")).await;
    page.click("#observed_chips [data-value=Stopped]").await;
    page.until(&format!("{NAMES} === 'ticket-bot' && location.search === '?observed=Stopped'")).await;
    page.click("#observed_chips [data-value=Stopped]").await;
    page.until(&format!("{NAMES} === 'ticket-bot,welcome-bot' && location.search === ''")).await;
    page.click(".head .name button").await;
    page.until("location.search === '?sort=name'").await;
    page.click(".head .name button").await;
    page.until(&format!("{NAMES} === 'welcome-bot,ticket-bot'")).await;
    // The third click restores the default: apps that need attention first.
    page.click(".head .name button").await;
    page.until(&format!("{NAMES} === 'ticket-bot,welcome-bot' && location.search === ''")).await;

    // The keyboard alone: from the search into the list, into the details and back.
    page.keys("/").await;
    page.keys(browser::DOWN).await;
    page.keys(browser::DOWN).await;
    page.until("document.activeElement.textContent === 'welcome-bot'").await;
    page.keys(browser::UP).await;
    page.until("document.activeElement.textContent === 'ticket-bot'").await;
    page.keys(browser::ENTER).await;
    page.until("location.hash === '#ticket-bot' && document.activeElement.id === 'detail_name'").await;
    let details = page.ask("document.getElementById('detail_panel').innerText").await;
    let text = details.as_str().unwrap();
    for part in ["ticket-bot", "Settled", "The app is Stopped, as declared.", "HTTP 200, status “active”", "Ready", A]
    {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    page.shot("details").await;
    page.keys(browser::ESCAPE).await;
    page.until("location.hash === '' && document.activeElement.textContent === 'ticket-bot'").await;

    // An edit shows up without a reload.
    page.ask("window.stayed = true").await;
    manifests.set("welcome-bot", B, "Stopped");
    page.until(
        "['Stopped', 'Settled'].every((word) =>
            document.querySelector('[data-name=welcome-bot]').innerText.split(/\\s+/).includes(word))
            && !document.querySelector('[data-name=welcome-bot]').innerText.includes('Running')",
    )
    .await;
    manifests.put("third", &manifest("third", "60c72b2f9b1e8d001c8e4f3c", "Running"));
    page.until(&format!("{NAMES} === 'third,ticket-bot,welcome-bot'")).await;
    page.until("document.querySelector('[data-name=third] .reason').innerText === 'AppNotFound'").await;
    manifests.put("broken", "kind: App\n");
    page.until("/^[1-9]\\d* problem/.test(document.getElementById('problem_summary').innerText)").await;
    assert_eq!(page.ask("window.stayed").await, true);

    // Accessible: axe-core finds no violation in any colour scheme, with and without the details.
    for (width, height, scheme) in LOOKS {
        page.look(width, height, scheme).await;
        page.ask("location.hash = ''").await;
        page.until("document.getElementById('detail_panel').hidden").await;
        page.axe().await;
        page.shot(&format!("fleet-{width}-{scheme:?}")).await;
        page.ask("location.hash = 'welcome-bot'").await;
        page.until("document.getElementById('detail_history').textContent !== 'Loading …'").await;
        page.axe().await;
        page.shot(&format!("details-{width}-{scheme:?}")).await;
        // Nothing is wider than the window.
        page.until("document.documentElement.scrollWidth <= innerWidth").await;
    }
    page.ask("location.hash = ''").await;

    // No errors, and no requests to other servers.
    page.no_errors().await;
    let requests = page.requests().await;
    assert!(requests.len() > 5, "{requests:?}");
    for url in &requests {
        assert!(url.starts_with(&format!("{origin}/")) || url.starts_with("data:"), "a request to {url}");
    }

    // Dead, and back again.
    running.signal("-KILL");
    running.ends();
    page.until("document.body.dataset.link === 'lost'").await;
    page.until(
        "/^Disconnected, last seen \\d\\d:\\d\\d:\\d\\d\\./.test(document.getElementById('lost_banner').innerText)",
    )
    .await;
    page.until("document.getElementById('spoken_text').textContent.startsWith('Disconnected')").await;
    page.axe().await;
    page.shot("disconnected").await;
    let _back = daemon(&simulator, &manifests, address);
    page.until(&format!("{LIVE} && document.getElementById('lost_banner').hidden")).await;
    assert_eq!(page.ask("window.stayed").await, true);
    page.end().await;
}

#[tokio::test]
#[ignore = "needs chromium, chromedriver and axe-core: .ci/run installs and runs it"]
async fn the_page_keeps_up_with_ten_thousand_apps_and_a_stream() {
    let pretend = Pretend::start(10_000).await;
    let page = Browser::start().await;
    page.look(1280, 900, Scheme::Light).await;
    page.open(&pretend.url()).await;
    page.until("document.body.dataset.link === 'live'").await;
    page.until("document.getElementById('list_count').textContent === '10,000 apps'").await;
    page.shot("ten-thousand").await;

    // The time is printed, not checked: the machine may be busy.
    let times = page
        .ask(
            "(() => {
                const search = document.getElementById('search_input');
                const timed = (act) => { const start = performance.now(); act(); document.body.offsetHeight; return performance.now() - start; };
                const type = (text) => timed(() => { search.value = text; search.dispatchEvent(new Event('input')); });
                return {
                    filter: ['a', 'app-0', 'app-099', 'nothing', 'team=1', ''].map(type),
                    sort: [...document.querySelectorAll('.head button')].map((button) => timed(() => button.click())),
                    scroll: [0, 9, 99, 999, 5000, 9990].map((row) => timed(() => { scrollTo(0, row * 36); dispatchEvent(new Event('scroll')); })),
                };
            })()",
        )
        .await;
    eprintln!("ms for 10,000 apps: {times}");
    // Only the visible rows exist.
    assert!(page.ask("document.querySelectorAll('.rows [role=row]').length").await.as_u64().unwrap() < 80);

    // Each kind of event.
    page.click(".head .name button").await;
    page.ask("scrollTo(0, 0)").await;
    pretend.app(&pretend::app(
        3,
        "Stopped",
        "Running",
        "Stopping",
        "a <b>stop</b> was <img src=x onerror=alert(1)> sent",
    ));
    page.until("document.querySelector('#reason_chips [data-value=Stopping] .number').textContent === '1'").await;
    page.ask("location.hash = 'app-00003'").await;
    // Text of the server stays text, even if it resembles markup.
    page.until("document.getElementById('detail_message').textContent === 'A <b>stop</b> was <img src=x onerror=alert(1)> sent.'").await;
    page.until("document.querySelectorAll('.history li').length === 2").await;
    page.until("document.querySelectorAll('#detail_strip [data-state]').length >= 2").await;
    page.shot("strip").await;
    page.axe().await;
    pretend.send("history", &pretend::entry("app-00003", "2026-11-24T12:00:00Z", None));
    page.until("document.querySelectorAll('.history li').length === 3").await;
    pretend.remove("app-00003");
    page.until("document.getElementById('list_count').textContent === '9,999 apps'").await;
    page.until("document.getElementById('detail_message').textContent.startsWith('No manifest declares')").await;
    let mut status = pretend::status();
    status["governor"]["breakerOpen"] = json!(true);
    pretend.send("daemon", &status);
    page.until("document.getElementById('notice_list').innerText.includes('CamposCloud does not answer.')").await;

    // A storm of events is drawn in bursts, and the last event of each app wins.
    for at in 0..5_000 {
        pretend.app(&pretend::app(at % 500 + 10, "Running", "Running", "Settled", &format!("storm {at}")));
    }
    pretend.app(&pretend::app(9, "Running", "Running", "Settled", "after the storm"));
    page.ask("location.hash = 'app-00009'").await;
    page.until("document.getElementById('detail_message').textContent === 'After the storm.'").await;

    // Many apps in trouble at once.
    page.ask("location.hash = ''").await;
    page.ask("(() => { const sort = document.getElementById('sort_select'); sort.value = 'group'; sort.dispatchEvent(new Event('change')); })()").await;
    for at in 0..300 {
        pretend.app(&pretend::app(
            at + 600,
            "Stopped",
            "Running",
            "BackingOff",
            "the last call failed; retrying (attempt 3)",
        ));
    }
    page.until("document.title === '300 in trouble · campos-operator'").await;
    page.until("document.querySelector('.rows [role=row]').dataset.name === 'app-00600'").await;
    page.ask("scrollTo(0, 0)").await;
    for (width, height, scheme) in LOOKS {
        page.look(width, height, scheme).await;
        page.shot(&format!("trouble-{width}-{scheme:?}")).await;
    }
    page.look(1280, 900, Scheme::Light).await;
    // A bulk in progress.
    let mut bulk = pretend::status();
    bulk["progress"] =
        json!([{"task": "stop", "done": 120, "accepted": 143, "total": 300, "endsAt": "2099-01-01T00:00:00Z"}]);
    pretend.send("daemon", &bulk);
    page.until("document.getElementById('progress_list').innerText.includes('Stops: 120 of 300 (143 accepted)')").await;
    page.axe().await;
    page.shot("bulk").await;

    // A reset reads everything again: here an operator without any app.
    page.ask("location.hash = ''").await;
    pretend.empty();
    page.until("document.getElementById('list_blank').innerText.startsWith('No manifests yet.')").await;
    page.look(390, 844, Scheme::Dark).await;
    page.axe().await;
    page.shot("empty").await;
    page.no_errors().await;

    // The page opens an ended stream again and reads the missed changes.
    pretend.app_unheard(&pretend::app(1, "Running", "Running", "Settled", "missed"));
    pretend.hang_up();
    page.until("document.getElementById('list_count').textContent === '1 app'").await;
    page.until("document.body.dataset.link === 'live'").await;

    // A daemon that answers while its loop is stalled is not healthy.
    pretend.stall();
    page.until("document.getElementById('notice_list').innerText.includes('loop makes no progress')").await;
    page.end().await;
}

/// An app with a schedule, one that does not exist, and one that no manifest declares.
#[tokio::test]
#[ignore = "needs chromium, chromedriver and axe-core: .ci/run installs and runs it"]
async fn failures_schedules_labels_and_undeclared_apps_have_their_places() {
    const C: &str = "60c72b2f9b1e8d001c8e4f3c";
    let simulator = Simulator::start(Config::default(), &[A, B, C]);
    let manifests = Manifests::new(&[("gone", "640000000000000000000001", "Running"), ("plain", A, "Running")]);
    let windows = "[{state: Stopped, from: \"00:00\", to: \"12:00\", reason: closed}, {state: Stopped, from: \"12:00\", to: \"00:00\", reason: closed}, \
        {state: Running, from: \"2030-01-01T00:00:00\"}]";
    let scheduled =
        manifest("timed", B, "Running").replace("  name: timed\n", "  name: timed\n  labels: {team: games}\n");
    manifests.put("timed", &format!("{scheduled}  schedule: {{timeZone: America/Sao_Paulo, windows: {windows}}}\n"));
    let link = "https://forge.example/fleet/blob/{revision}/{file}#L{line}";
    let daemon = Daemon::start(&simulator, &manifests, &["--interval", "1s", "--source-link", link]);
    daemon.wait_for("nothing is left to do");
    let origin = format!("http://{}", daemon.address());
    let page = Browser::start().await;
    page.look(390, 844, Scheme::Light).await;
    page.open(&origin).await;
    page.until(LIVE).await;
    // On a phone, the first app is within the first screen.
    page.until("document.querySelector('.rows [role=row]').getBoundingClientRect().bottom < innerHeight").await;
    page.shot("phone").await;
    page.look(1280, 900, Scheme::Light).await;
    // Trouble first, in the list, the title and the icon; no words where all is well.
    page.until(&format!("{NAMES} === 'gone,plain,timed'")).await;
    page.until("document.title === '1 needs a person · campos-operator'").await;
    page.until("document.querySelector('link[rel=icon]').href.includes('%23b3261e')").await;
    page.until("document.querySelector('[data-name=plain] .why').textContent === ''").await;
    page.until("document.querySelector('[data-name=plain] .next').textContent === ''").await;
    page.until("document.querySelector('[data-name=gone] .why').textContent !== ''").await;
    // The gauge counts what the daemon counts.
    page.until("/^[1-9]\\d* of 120 a minute$/.test(document.getElementById('budget_text').textContent)").await;
    page.until("document.getElementById('activity_list').textContent.includes('stopped')").await;
    page.until("document.querySelectorAll('.trend [data-tone=ok]').length > 0").await;
    // Undeclared apps, labels as filter, and groups by label.
    page.click("#undeclared_button").await;
    page.until("document.getElementById('undeclared_list').textContent.includes('campos-operator import')").await;
    page.until(&format!("document.getElementById('undeclared_list').textContent.includes('{C}')")).await;
    page.axe().await;
    page.click("#undeclared_button").await;
    page.click("#label_chips [data-value='team=games']").await;
    page.until(&format!("{NAMES} === 'timed' && location.search === '?label=team%3Dgames'")).await;
    page.click("#clear_button").await;
    page.ask("(() => { const by = document.getElementById('by_select'); by.value = 'team'; by.dispatchEvent(new Event('change')); })()").await;
    let titles = "[...document.querySelectorAll('.rows .title b')].map((one) => one.textContent).join()";
    page.until(&format!("{titles} === 'team=games,no team'")).await;
    page.axe().await;
    page.shot("groups").await;
    page.ask("(() => { const by = document.getElementById('by_select'); by.value = ''; by.dispatchEvent(new Event('change')); })()").await;
    // The keys; the search has the focus.
    page.keys(browser::ESCAPE).await;
    page.keys("?").await;
    page.until("document.getElementById('keys_dialog').open").await;
    page.axe().await;
    page.keys(browser::ESCAPE).await;
    page.until("!document.getElementById('keys_dialog').open").await;
    // The details leave the reasons in view, and show the schedule, the link and the commands.
    page.ask("location.hash = 'timed'").await;
    page.until("document.querySelectorAll('#week_days svg').length === 7").await;
    page.until("document.querySelector('#week_windows [data-decides]').textContent.includes('closed')").await;
    page.until("document.getElementById('week_zone').textContent === 'Times are in America/Sao_Paulo.'").await;
    page.until("document.querySelector('#detail_object a').href.startsWith('https://forge.example/fleet/blob/')").await;
    page.until("document.querySelector('#detail_object a').href.endsWith('/timed.yaml#L1')").await;
    page.until(
        "[...document.querySelectorAll('.copy')].some((one) => one.dataset.copy === 'campos-operator explain timed')",
    )
    .await;
    page.until("document.querySelectorAll('#detail_strip [data-state=\"Not known\"]').length > 0").await;
    page.until(
        "document.querySelector('[data-name=gone] .why').getBoundingClientRect().right
            <= document.getElementById('detail_panel').getBoundingClientRect().left",
    )
    .await;
    page.click("#detail_object .copy").await;
    page.until("document.querySelector('#detail_object .copy').textContent === 'Copied'").await;
    page.axe().await;
    page.shot("schedule").await;
    page.ask("document.getElementById('week_section').scrollIntoView()").await;
    page.shot("schedule-week").await;
    page.look(390, 844, Scheme::Dark).await;
    page.axe().await;
    page.shot("schedule-phone").await;
    page.no_errors().await;
    page.end().await;
}

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
