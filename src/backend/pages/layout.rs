//! What all pages have around them.

use axum::http::StatusCode;
use maud::{DOCTYPE, Markup, html};

/// A square with a rising line, as the pages' icon.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect \
width='16' height='16' rx='4' fill='%232f6fed'/%3E%3Cpath d='M3 11l3-4 3 2 4-5' fill='none' stroke='white' \
stroke-width='2' stroke-linecap='round' stroke-linejoin='round'/%3E%3C/svg%3E";

/// Where a page stands: links to the pages above it, by their names.
pub(super) type Crumbs = Vec<(String, String)>;

/// A page that keeps itself up to date from `live`.
pub(super) fn page(title: &str, crumbs: &Crumbs, live: &str, content: &Markup) -> Markup {
    shell(
        title,
        Some(live),
        &html! {
            header.top {
                nav {
                    a.brand href="/" { "Outrider" }
                    @for (href, name) in crumbs { span.sep { "/" } a href=(href) { (name) } }
                }
                span.live #live-state title="Whether this page keeps itself up to date" { "live" }
                form method="post" action="/logout" { button.quiet { "Log out" } }
            }
            main { (content) }
        },
    )
}

/// The way in.
pub(super) fn login(error: Option<&str>) -> Markup {
    shell(
        "Log in",
        None,
        &html! {
            main.login {
                h1 { "Outrider" }
                @if let Some(error) = error { p.error role="alert" { (error) } }
                form method="post" action="/login" {
                    label for="token" { "Admin token" }
                    input #token name="token" type="password" autocomplete="current-password" required autofocus;
                    button { "Log in" }
                }
                p.hint {
                    "The token stands in the file " code { "admin-token" } " of the backend's data folder. "
                    code { "outrider-backend login" } " makes a link that logs a browser in."
                }
            }
        },
    )
}

/// Something that cannot be shown.
pub(super) fn error(status: StatusCode, message: &str) -> Markup {
    shell(
        "Error",
        None,
        &html! {
            main.login {
                h1 { (status.as_u16()) }
                p { (message) }
                p { a href="/" { "To the agents" } }
            }
        },
    )
}

fn shell(title: &str, live: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Outrider" }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href="/assets/outrider.css";
                script src="/assets/outrider.js" defer {}
            }
            body data-live=[live] { (body) }
        }
    }
}
