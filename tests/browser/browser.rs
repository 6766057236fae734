//! A headless Chromium for these tests, and the few operations that they need.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use axum::http::Method;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::Url;
use serde_json::{Value, json};

use super::DEADLINE;

pub(crate) const ESCAPE: &str = "\u{e00c}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const UP: &str = "\u{e013}";
pub(crate) const DOWN: &str = "\u{e015}";

/// Preferences of the person.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

/// `chromedriver` and the one window that it drives; both end with this.
pub(crate) struct Browser {
    driver: Child,
    client: Client,
}

/// Chromium's own commands, which `WebDriver` has no word for.
#[derive(Debug)]
struct Vendor(&'static str, Value);

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url_error::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.1.to_string()))
    }
}

/// `url`'s error, by way of the trait that names it.
mod url_error {
    pub(super) type ParseError = <reqwest::Url as std::str::FromStr>::Err;
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let mut driver = Command::new(env::var("CHROMEDRIVER").unwrap_or_else(|_| "chromedriver".into()))
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed (Debian: chromium-driver)");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said = lines.find(|line| line.contains("started successfully on port")).expect("chromedriver starts");
        let port: u16 = said.trim_end_matches('.').rsplit(' ').next().unwrap().parse().unwrap();
        thread::spawn(move || lines.for_each(drop)); // a full pipe would hold it up
        let mut options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                "--disable-background-networking", "--disable-component-update", "--lang=en-US"],
        });
        if let Ok(chromium) = env::var("CHROMIUM") {
            options["binary"] = json!(chromium);
        }
        let wanted = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        });
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted.as_object().unwrap().clone());
        let client = builder.connect(&format!("http://127.0.0.1:{port}")).await.expect("chromium starts");
        Self { driver, client }
    }

    /// The window's size and the person's preference.
    pub(crate) async fn look(&self, width: u32, height: u32, scheme: Scheme) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// The value of a JavaScript expression.
    pub(crate) async fn ask(&self, expression: &str) -> Value {
        self.client.execute(&format!("return {expression}"), Vec::new()).await.unwrap()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&self, expression: &str) {
        let step = Duration::from_millis(20);
        for _ in 0..DEADLINE.as_millis() / step.as_millis() {
            // The expression may fail while the page lacks the element.
            let script = format!("try {{ return Boolean({expression}) }} catch {{ return false }}");
            if self.client.execute(&script, Vec::new()).await.unwrap() == json!(true) {
                return;
            }
            tokio::time::sleep(step).await;
        }
        self.shot("waited-in-vain").await;
        let text = self.ask("document.body.innerText").await;
        panic!("waited in vain until {expression}:\n{}", text.as_str().unwrap_or_default());
    }

    /// Types into the element with the focus.
    pub(crate) async fn keys(&self, keys: &str) {
        let focused = self.client.active_element().await.unwrap();
        focused.send_keys(keys).await.unwrap();
    }

    pub(crate) async fn click(&self, selector: &str) {
        self.client.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
    }

    /// axe-core finds no violation on the page as it is.
    pub(crate) async fn axe(&self) {
        let path = env::var("AXE_JS").expect("AXE_JS is the path of axe-core's axe.min.js");
        let source = fs::read_to_string(path).unwrap();
        self.client.execute(&source, Vec::new()).await.unwrap();
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document, { resultTypes: ['violations'] }).then(
                ({ violations, passes }) => done({ passes: passes.length, violations: violations.map(({ id, help, nodes }) =>
                    `${id}: ${help}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`) }),
                (error) => done({ passes: 0, violations: [String(error)] }))";
        let found = self.client.execute_async(script, Vec::new()).await.unwrap();
        assert_eq!(found["violations"], json!([]), "axe-core");
        assert!(found["passes"].as_u64().unwrap() > 10, "axe-core looked at too little: {found}");
    }

    /// The console has neither errors nor warnings.
    pub(crate) async fn no_errors(&self) {
        let entries = self.vendor("se/log", json!({"type": "browser"})).await;
        let bad = |entry: &&Value| ["SEVERE", "WARNING"].contains(&entry["level"].as_str().unwrap());
        let errors: Vec<&Value> = entries.as_array().unwrap().iter().filter(bad).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    /// The address of every request since the last time.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let entries = self.vendor("se/log", json!({"type": "performance"})).await;
        let url = |entry: &Value| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            let sent = ["Network.requestWillBeSent", "Network.webSocketCreated"].contains(&message["method"].as_str()?);
            let url = message["params"].pointer("/request/url").or(message["params"].get("url"))?;
            // The empty window before the first page.
            url.as_str().filter(|url| sent && *url != "about:blank").map(str::to_owned)
        };
        entries.as_array().unwrap().iter().filter_map(url).collect()
    }

    /// Takes a picture if the environment names a directory.
    pub(crate) async fn shot(&self, name: &str) {
        if let Ok(directory) = env::var("BROWSER_SHOTS") {
            let picture = self.client.screenshot().await.unwrap();
            fs::write(Path::new(&directory).join(format!("{name}.png")), picture).unwrap();
        }
    }

    /// Closes the window. Dropping alone leaves the end of Chromium to its driver.
    pub(crate) async fn end(self) {
        self.client.clone().close().await.unwrap();
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        self.vendor("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await;
    }

    async fn vendor(&self, path: &'static str, body: Value) -> Value {
        self.client.issue_cmd(Vendor(path, body)).await.unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A gentle end takes Chromium along; the driver may have ended already.
        let _ = Command::new("kill").args(["-TERM", &self.driver.id().to_string()]).status();
        let _ = self.driver.wait();
    }
}
