//! The pages.
use crate::app::Shared;
use axum::Router;
pub(crate) fn routes(_app: &Shared) -> Router<Shared> {
    Router::new()
}
