//! What this end answers: handlers by method, kept in jsonrpsee's registry.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::{Extensions, Methods, RpcModule};
use outrider_protocol::fault::{RpcError, code};
use outrider_protocol::{Call, Notice};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::message::{Invalid, Message, read};

/// The handlers of one end of a link, with the state `C` that they share.
///
/// A later handler for the same method replaces an earlier one. A handler may answer at once or take its time; it runs
/// on the link's one dispatching task, so work that keeps a processor busy or blocks belongs on a thread of its own.
#[derive(Debug)]
pub struct Handlers<C> {
    module: RpcModule<C>,
    /// Methods whose handlers read their parameters themselves.
    unread: HashSet<&'static str>,
}

/// Handlers as the link uses them.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) methods: Methods,
    /// Methods whose parameters nobody looks at before their handlers do.
    pub(crate) unread: HashSet<&'static str>,
}

impl<C: Send + Sync + 'static> Handlers<C> {
    /// No handlers yet.
    #[must_use]
    pub fn new(context: C) -> Self {
        Self { module: RpcModule::new(context), unread: HashSet::new() }
    }

    /// Answers `M` with what `f` returns. Parameters that do not fit are answered with [`code::INVALID_PARAMS`] before
    /// `f` is called.
    pub fn on<M, F, Fut>(&mut self, f: F) -> &mut Self
    where
        M: Call,
        F: Fn(Arc<C>, M::Params) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<M::Reply, RpcError>> + Send + 'static,
    {
        let f = Arc::new(f);
        self.answer::<M, _, _>(move |context, raw| {
            let f = f.clone();
            async move {
                // The line is let go before the handler, which may take long, begins.
                let params = raw.parse::<M::Params>(M::NAME)?;
                drop(raw);
                f(context, params).await
            }
        })
    }

    /// Answers `M`, whose parameters `f` reads itself, with [`RawParams::parse_borrowed`]: for large ones, without a copy.
    /// Nobody looks at a large line of such a method before `f` does.
    pub fn on_raw<M, F, Fut>(&mut self, f: F) -> &mut Self
    where
        M: Call,
        F: Fn(Arc<C>, RawParams) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<M::Reply, RpcError>> + Send + 'static,
    {
        self.answer::<M, _, _>(f);
        self.unread.insert(M::NAME);
        self
    }

    fn answer<M, F, Fut>(&mut self, f: F) -> &mut Self
    where
        M: Call,
        F: Fn(Arc<C>, RawParams) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<M::Reply, RpcError>> + Send + 'static,
    {
        self.register(M::NAME, move |context, raw| {
            let reply = f(context, raw);
            async move {
                let reply = reply.await?;
                to_raw_value(&reply).map_err(|err| {
                    RpcError::new(
                        code::INTERNAL,
                        format!("{}: the answer cannot be written as JSON: {err}", M::NAME),
                    )
                })
            }
        })
    }

    /// Calls `f` with each `N`. What follows on the link waits until `f` is done, so it should be quick.
    pub fn on_notice<N, F, Fut>(&mut self, f: F) -> &mut Self
    where
        N: Notice,
        F: Fn(Arc<C>, N::Params) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let f = Arc::new(f);
        self.register(N::NAME, move |context, raw| {
            let f = f.clone();
            async move {
                let params = raw.parse::<N::Params>(N::NAME)?;
                drop(raw);
                f(context, params).await;
                Ok(RawValue::NULL.to_owned())
            }
        })
    }

    fn register<F, Fut>(&mut self, name: &'static str, f: F) -> &mut Self
    where
        F: Fn(Arc<C>, RawParams) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Box<RawValue>, RpcError>> + Send + 'static,
    {
        let f = Arc::new(f);
        drop(self.module.remove_method(name));
        self.unread.remove(name);
        let registered = self.module.register_async_method(name, move |_, context, carried: Extensions| {
            let f = f.clone();
            async move {
                let raw = take(&carried);
                drop(carried);
                f(context, raw).await.map_err(error_object)
            }
        });
        debug_assert!(registered.is_ok(), "the name was freed above");
        self
    }

    pub(crate) fn into_registry(self) -> Registry {
        Registry { methods: self.module.into(), unread: self.unread }
    }
}

/// The parameters of a request: JSON text that lives in the line it came in.
#[derive(Debug, Default)]
pub struct RawParams {
    line: String,
    at: Option<Range<usize>>,
    /// Only the line's beginning was looked at.
    unread: bool,
}

impl RawParams {
    pub(crate) fn new(line: String, at: Option<Range<usize>>, unread: bool) -> Self {
        Self { line, at, unread }
    }

    /// All of it, for a test.
    #[cfg(test)]
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// The text. Parameters that were left out, or `null`, read as `{}`.
    fn text(&self, at: Option<Range<usize>>) -> &str {
        at.and_then(|at| self.line.get(at)).unwrap_or("{}")
    }

    /// Where a text that was borrowed from them stands in [`RawParams::into_line`]; nothing for any other text.
    #[must_use]
    pub fn place_of(&self, part: &str) -> Option<Range<usize>> {
        let start = part.as_ptr().addr().checked_sub(self.line.as_ptr().addr())?;
        let place = start..start.checked_add(part.len())?;
        self.line.get(place.clone()).map(|_| place)
    }

    /// The whole line that they came in: its memory, for whoever goes on to use it.
    #[must_use]
    pub fn into_line(self) -> String {
        self.line
    }

    /// Reads them as a `T` that may borrow from them (`&str`, `&RawValue`).
    ///
    /// # Errors
    /// [`code::INVALID_PARAMS`], with what serde found, where they are no `T`; where nobody has read the line before, also
    /// [`code::PARSE`] and [`code::INVALID_REQUEST`].
    pub fn parse_borrowed<'a, T: Deserialize<'a>>(&'a self) -> Result<T, RpcError> {
        let parsed = serde_json::from_str(self.text(self.at.clone()));
        let parsed = match parsed {
            // It is what it was taken for, and the line's whole rest was read just now.
            Ok(parsed) => return Ok(parsed),
            Err(_) if self.unread => match read(&self.line) {
                Message::Request { params, .. } => serde_json::from_str(self.text(params)),
                Message::Invalid(Invalid { code, found, .. }) => return Err(RpcError::new(code, found)),
                Message::Answer { .. } => parsed,
            },
            Err(_) => parsed,
        };
        parsed.map_err(|err| RpcError::new(code::INVALID_PARAMS, format!("the parameters do not fit: {err}")))
    }

    fn parse<'a, T: Deserialize<'a>>(&'a self, method: &str) -> Result<T, RpcError> {
        self.parse_borrowed().map_err(|err| RpcError { message: format!("{method}: {}", err.message), ..err })
    }
}

/// Carries the parameters through jsonrpsee's callback, whose own way would copy them. Taken out once.
#[derive(Clone)]
struct Carried(Arc<Mutex<Option<RawParams>>>);

pub(crate) fn carry(raw: RawParams) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(Carried(Arc::new(Mutex::new(Some(raw)))));
    extensions
}

fn take(extensions: &Extensions) -> RawParams {
    let carried = extensions.get::<Carried>();
    carried.and_then(|it| it.0.lock().unwrap_or_else(PoisonError::into_inner).take()).unwrap_or_default()
}

/// The error as jsonrpsee writes it.
pub(crate) fn error_object(error: RpcError) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(error.code, error.message, error.data)
}
