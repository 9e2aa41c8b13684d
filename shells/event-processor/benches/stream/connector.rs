//! Debezium, told to follow a database of the bench's own.

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::system::{eventually, server_url, variable};

const SETTINGS: &str = include_str!("../../../../deploy/debezium/connector.json");

async fn call(method: Method, path: &str, body: Option<&Value>) -> Option<StatusCode> {
    let url = variable("DMS_TEST_CONNECT_URL", "http://127.0.0.1:8083");
    let http = Client::builder().no_proxy().build().expect("a client");
    let mut request = http.request(method, format!("{url}/connectors/{path}"));
    if let Some(body) = body {
        request = request.json(body);
    }
    request.send().await.ok().map(|answer| answer.status())
}

pub(crate) async fn register(name: &str) {
    let mut settings: Value = serde_json::from_str(SETTINGS).expect("JSON");
    settings["database.dbname"] = json!(name);
    settings["topic.prefix"] = json!(name);
    settings["slot.name"] = json!(name);
    settings["transforms.table.regex"] = json!(format!("{name}\\.[^.]+\\.(documents|signatures)"));
    settings["transforms.table.replacement"] = json!(format!("{name}.$1"));
    let path = format!("{name}/config");
    eventually("the connector is taken", async || {
        let status = call(Method::PUT, &path, Some(&settings)).await;
        if status == Some(StatusCode::BAD_REQUEST) {
            // A Connect that wasn't told where the database is, as the file wants it.
            for (name, value) in place_of_database() {
                settings[name] = json!(value);
            }
        }
        status.is_some_and(|status| status.is_success())
    })
    .await;
}

/// Removes it, if there is one.
pub(crate) async fn remove(name: &str) {
    if call(Method::GET, name, None).await != Some(StatusCode::OK) {
        return;
    }
    // Offsets outlive the connector, and can go only while it is stopped.
    call(Method::PUT, &format!("{name}/stop"), None).await;
    let offsets = format!("{name}/offsets");
    eventually("the connector's offsets are gone", async || {
        call(Method::DELETE, &offsets, None).await == Some(StatusCode::OK)
    })
    .await;
    call(Method::DELETE, name, None).await;
}

/// Where the database is, in words of the connector.
fn place_of_database() -> [(String, String); 4] {
    let url = server_url();
    let (_, rest) = url.split_once("://").expect("a URL");
    let (account, place) = rest.split_once('@').expect("an account");
    let (user, password) = account.split_once(':').expect("a password");
    let (address, _) = place.split_once('/').expect("a database");
    let (host, port) = address.split_once(':').unwrap_or((address, "5432"));
    [("hostname", host), ("port", port), ("user", user), ("password", password)]
        .map(|(name, value)| (format!("database.{name}"), value.to_owned()))
}
