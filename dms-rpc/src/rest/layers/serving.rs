//! The layer itself. Written by hand: as six layers from a shelf it would cost six allocations for
//! each request.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use dms_core::{Error, ErrorKind, RequestId};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service};
use tracing::Span;

use super::LayerOptions;
use super::instruments::{Instruments, UNMATCHED};
use super::receiving::{Progress, watched};
use crate::problem::OVERLOADED;
use crate::rest::body::stalled;
use crate::rest::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const ALLOW_NOTHING: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Wraps each route of a router.
#[derive(Clone)]
pub(super) struct ServingLayer {
    deadline: Duration,
    permits: Arc<Semaphore>,
    never_refused: &'static [&'static str],
}

impl ServingLayer {
    pub(super) fn new(options: &LayerOptions) -> Self {
        let requests_max = options.requests_max.min(Semaphore::MAX_PERMITS);
        Self {
            deadline: options.deadline,
            permits: Arc::new(Semaphore::new(requests_max)),
            never_refused: options.never_refused,
        }
    }
}

impl<S> Layer<S> for ServingLayer {
    type Service = Serving<S>;

    fn layer(&self, inner: S) -> Serving<S> {
        Serving { inner, shared: self.clone(), instruments: Instruments::default() }
    }
}

/// One route behind the layer.
#[derive(Clone)]
pub(super) struct Serving<S> {
    inner: S,
    shared: ServingLayer,
    instruments: Instruments,
}

impl<S> Service<Request> for Serving<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let began = Instant::now();
        let (mut parts, body) = request.into_parts();
        let (request_id, request_id_header) = identify(parts.headers.get(REQUEST_ID));
        let route = parts.extensions.get::<MatchedPath>().cloned();
        let path = route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
        let span =
            tracing::info_span!("request", %request_id, method = %parts.method, route = path);

        let permit = Arc::clone(&self.shared.permits).try_acquire_owned().ok();
        let refused = permit.is_none() && !self.shared.never_refused.contains(&path);
        let method = parts.method.clone();
        parts.extensions.insert(request_id.clone());
        let (body, progress) = watched(body);
        let inner = if refused {
            None
        } else {
            // A handler can panic before it gives its future.
            let request = Request::from_parts(parts, body);
            let call = AssertUnwindSafe(|| span.in_scope(|| self.inner.call(request)));
            Some(catch_unwind(call).map_err(|panic| panicked(&*panic)))
        };
        let (inner, failure) = match inner {
            Some(Ok(future)) => (Some(future), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, Some(overloaded())),
        };
        Answering {
            inner,
            failure,
            alarm: None,
            deadline: self.shared.deadline,
            progress,
            context: RequestContext {
                began,
                method,
                route,
                request_id,
                request_id_header,
                instruments: self.instruments.clone(),
                _permit: permit,
            },
            span,
        }
    }
}

/// The caller's id, or a new one.
fn identify(given: Option<&HeaderValue>) -> (RequestId, HeaderValue) {
    let sane = given.and_then(|value| {
        let id = RequestId::from_caller(value.to_str().ok()?)?;
        Some((id, value.clone()))
    });
    sane.unwrap_or_else(|| {
        let id = RequestId::generate();
        // A UUID is always a header's value.
        let header =
            HeaderValue::try_from(id.as_str()).unwrap_or_else(|_| HeaderValue::from_static("none"));
        (id, header)
    })
}

fn overloaded() -> Error {
    Error::unavailable("http", "too many requests at once").with_code(OVERLOADED)
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::internal("a handler panicked").with_source(message.unwrap_or("no message").to_owned())
}

/// What is known of a request apart from its body.
struct RequestContext {
    began: Instant,
    method: Method,
    route: Option<MatchedPath>,
    request_id: RequestId,
    request_id_header: HeaderValue,
    instruments: Instruments,
    _permit: Option<OwnedSemaphorePermit>,
}

impl RequestContext {
    /// Completes an answer.
    fn finish(&self, mut response: Response) -> Response {
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            problem.log();
            *response.body_mut() = problem.body(self.request_id.as_str()).into();
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, self.request_id_header.clone());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(ALLOW_NOTHING);
        headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);

        let (status, took) = (response.status(), self.began.elapsed());
        let route = self.route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
        self.instruments.record(route, &self.method, status, took);
        tracing::debug!(status = status.as_u16(), latency_us = took.as_micros(), "answered");
        response
    }
}

pin_project! {
    /// A request being answered.
    pub(super) struct Answering<F> {
        #[pin]
        inner: Option<F>,
        failure: Option<Error>,
        #[pin]
        alarm: Option<Sleep>,
        deadline: Duration,
        progress: Option<Arc<Progress>>,
        context: RequestContext,
        span: Span,
    }
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let _entered = this.span.enter();
        let answered = match this.inner.as_mut().as_pin_mut() {
            Some(inner) => catch_unwind(AssertUnwindSafe(|| inner.poll(cx)))
                .unwrap_or_else(|panic| Poll::Ready(Ok(failed(panicked(&*panic))))),
            None => {
                let failure = this.failure.take();
                let error = failure.unwrap_or_else(|| Error::internal("polled after the answer"));
                Poll::Ready(Ok(failed(error)))
            }
        };
        let response = match answered {
            Poll::Ready(Ok(response)) => response,
            Poll::Pending => loop {
                // The clock is asked only if the handler has to wait for something.
                let last = this.progress.as_ref().map_or(this.context.began, |p| p.last());
                let due = last + *this.deadline;
                if this.alarm.is_none() {
                    this.alarm.set(Some(sleep_until(due)));
                }
                let Some(mut alarm) = this.alarm.as_mut().as_pin_mut() else {
                    return Poll::Pending;
                };
                if alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if alarm.deadline() >= due {
                    break failed(overdue(this.progress.as_deref()));
                }
                alarm.reset(due);
            },
        };
        // What the handler holds is let go of before the client hears of it.
        this.inner.set(None);
        Poll::Ready(Ok(this.context.finish(response)))
    }
}

fn failed(error: Error) -> Response {
    Problem::from(error).into_response()
}

fn overdue(progress: Option<&Progress>) -> Error {
    match progress {
        Some(progress) if !progress.is_complete() => {
            progress.give_up();
            stalled()
        }
        _ => Error::new(ErrorKind::Timeout, "the deadline passed"),
    }
}
