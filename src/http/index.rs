//! `GET /`: what there is, for a person with a browser.

/// The endpoints, one a line.
pub(super) async fn index() -> &'static str {
    concat!(
        "poolwatch ",
        env!("CARGO_PKG_VERSION"),
        "\n\n",
        "/metrics        figures for Prometheus\n",
        "/healthz        alive?\n",
        "/readyz         able to serve?\n",
        "/api/v1/pools   the pools now, as JSON\n",
        "/api/v1/docs    all of the JSON API\n",
    )
}
