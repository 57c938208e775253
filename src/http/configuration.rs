//! `GET /api/v1/configuration`: the settings that it runs on.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::Refused;
use super::server::HttpState;

/// The settings.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Configuration {
    settings: Vec<Setting>,
}

/// One setting, as it is shown.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Setting {
    /// Its name, as in docs/settings.md.
    pub key: String,
    /// Its value; secrets are masked.
    pub value: String,
    /// What it is where nothing is set.
    pub default: String,
    /// Whether a reload changes it; if not, it needs a restart.
    pub changeable: bool,
}

/// All settings, in the order of the documentation, secrets masked.
#[utoipa::path(get, path = "/api/v1/configuration", tag = "process", operation_id = "configuration",
    responses((status = 200, body = Configuration), Refused))]
pub(super) async fn configuration(State(state): State<HttpState>) -> Json<Configuration> {
    let settings = (state.settings)();
    Json(Configuration { settings })
}
