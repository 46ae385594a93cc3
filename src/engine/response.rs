//! The response of an upstream: reading and recording it.
//!
//! Owns which part of a response is recorded, and which part counts for the decision. Its invariant:
//! whatever the size of a response, about one chunk of it is in memory. It must not know what
//! follows.

use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderMap};
use http_body::Body as _;
use url::Url;

use super::EngineContext;
use super::attempt_timeout::AttemptTimeout;
use super::body_chunker::BodyChunker;
use super::body_writer::BodyWriter;
use super::settle::AttemptResult;
use crate::upstream::{
    NamedMonitor, ResponseBody, ResponseReceived, Upstream, UpstreamError, UpstreamResponse,
};
use cloakroom_domain::http::location::{LocationTarget, OwnOrigins, requested};
use cloakroom_domain::http::retry_after::RetryAfter;
use cloakroom_domain::http::{hygiene, redirect, relocation};
use cloakroom_domain::operation::{
    BodyKey, Continuation, ErrorCode, OperationBody, Outcome, Policy, RequestPurpose, SendState,
    UpstreamAnswer,
};
use cloakroom_domain::{Fields, Timestamp};
use cloakroom_ledger::{KeptAnswer, LedgerError};

/// How long, and how far in octets, the body of a 202 that names a monitor is read to its
/// end, so that the connection can be used again.
const REMAINDER: (Duration, usize) = (Duration::from_secs(1), 64 * 1024);

/// The request behind a response, and how the response is recorded.
#[derive(Clone, Copy)]
pub(super) struct ResponseContext<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) max_response: u64,
    pub(super) purpose: &'a RequestPurpose,
    pub(super) policy: &'a Policy,
    /// The URLs by which the upstream may name the gateway.
    pub(super) public: &'a [Url],
    /// Whether a monitor that it names is followed.
    pub(super) follows: bool,
}

/// Reads the reply to an attempt, in what is left of its time.
pub(super) async fn of_attempt(
    engine: &EngineContext,
    context: ResponseContext<'_>,
    time_left: &mut AttemptTimeout<'_>,
    mut reply: UpstreamResponse,
) -> AttemptResult {
    let now = engine.clock.now();
    let status = reply.status.as_u16();
    let doubt = match time_left.wait_for(reply.gateway_doubt()).await {
        Ok(Ok(doubt)) => doubt.or(context.upstream.settings().doubt_of(reply.service_status())),
        Ok(Err(broken)) => return broken_off(broken),
        Err(_) => return AttemptResult::of(late(SendState::Perhaps)),
    };
    let answer = UpstreamAnswer {
        doubt,
        repeated: reply.is_repeated,
        by_scheme: context.names_scheme_alone(&reply),
        ..ResponseContext::answer(status, &reply.fields, now)
    };
    let ended = match context.monitor(&reply, now) {
        NamedMonitor::Nothing => None,
        NamedMonitor::Monitor(monitor) => {
            let monitor = Some(Continuation::monitor(monitor));
            Some(AttemptResult::of(Outcome::Answered(UpstreamAnswer { monitor, ..answer })))
        }
        NamedMonitor::NotFollowed(origin) => {
            let detail = format!("the 202 names a monitor at {origin}, which may not be followed");
            Some(AttemptResult { detail: Some(detail), ..AttemptResult::of(Outcome::NotFollowed) })
        }
    };
    if let Some(ended) = ended {
        // The head says it all. Whatever becomes of the body, the upstream works on it.
        let _ = engine.clock.timeout(REMAINDER.0, finish(&mut reply.body)).await;
        return ended;
    }
    let creates = context.policy.creates_by(context.purpose, &answer);
    let created = reply.fields.get(header::LOCATION).filter(|_| creates);
    let created_location =
        created.and_then(|value| context.located(value.as_bytes(), reply.target.as_str()));
    let read = body(engine, &mut reply.body, context.max_response, time_left).await;
    let framing = reply.body.framing();
    kept(answer, read, Outcome::Answered, |body| KeptAnswer {
        status,
        fields: context.recorded(reply.fields, reply.target.as_str()),
        body,
        framing,
        created_location,
    })
}

/// Reads the final answer of an upstream's monitor. `status` is what it counts as,
/// `created` what it names as created.
pub(super) async fn of_monitor(
    engine: &EngineContext,
    context: ResponseContext<'_>,
    time_left: &mut AttemptTimeout<'_>,
    status: u16,
    created: Option<Url>,
    mut reply: UpstreamResponse,
) -> AttemptResult {
    let answer = ResponseContext::answer(status, &reply.fields, engine.clock.now());
    let answer = UpstreamAnswer { doubt: reply.doubt, ..answer };
    // What another gateway has recorded is the answer to the request.
    let answer = if reply.is_recorded() { answer } else { answer.from_monitor() };
    let created_location = created.and_then(|url| context.located(url.as_str().as_bytes(), "/"));
    let read = body(engine, &mut reply.body, context.max_response, time_left).await;
    let framing = reply.body.framing();
    kept(answer, read, Outcome::Followed, |body| KeptAnswer {
        status,
        fields: context.recorded(reply.fields, reply.target.as_str()),
        body,
        framing,
        created_location,
    })
}

/// Reads what the upstream has of an earlier attempt, in what is left of the time. It has
/// said already that there is something, so the answer is kept as far as it can be read.
pub(super) async fn of_recheck(
    engine: &EngineContext,
    context: ResponseContext<'_>,
    time_left: &mut AttemptTimeout<'_>,
    mut reply: UpstreamResponse,
) -> AttemptResult {
    let target = reply.target.as_str().to_owned();
    let named = [header::CONTENT_LOCATION, header::LOCATION];
    let named = named.iter().find_map(|name| reply.fields.get(name));
    // What was asked is no name of what was made: it may be a search, and its answer is the result.
    let created_location = named.and_then(|value| context.located(value.as_bytes(), &target));
    let fields = context.recorded(reply.fields, &target);
    let status = reply.status.as_u16();
    let read = body(engine, &mut reply.body, context.max_response, time_left).await;
    let (body, framing) = match read {
        BodyRead::Whole(body) => (body, reply.body.framing()),
        BodyRead::TooLarge | BodyRead::Failed(_) | BodyRead::Late | BodyRead::Unkept(_) => {
            (OperationBody::empty(), None)
        }
    };
    let answer = KeptAnswer { status, fields, body, framing, created_location };
    AttemptResult { answer: Some(answer), ..AttemptResult::of(Outcome::TookEffect { status }) }
}

impl ResponseContext<'_> {
    fn answer(status: u16, fields: &HeaderMap, now: Timestamp) -> UpstreamAnswer {
        UpstreamAnswer { retry_after: RetryAfter::of(fields, now), ..UpstreamAnswer::plain(status) }
    }

    /// The upstream's monitor. Where it would not be followed, the 202 is an answer like
    /// any other.
    fn monitor(&self, reply: &UpstreamResponse, now: Timestamp) -> NamedMonitor {
        if self.policy.is_synchronous() || !self.follows {
            return NamedMonitor::Nothing;
        }
        let answer = (reply.status, &reply.fields);
        self.upstream.monitor_of(answer, &reply.target, self.public, now)
    }

    fn home(&self) -> OwnOrigins<'_> {
        OwnOrigins { upstream: &self.upstream.settings().origin, public: self.public }
    }

    fn names_scheme_alone(&self, reply: &UpstreamResponse) -> bool {
        let location = reply.fields.get(header::LOCATION).filter(|_| reply.status.is_redirection());
        let requested = requested(&self.upstream.settings().origin, reply.target.as_str());
        location.is_some_and(|it| redirect::names_scheme_alone(it, &requested, self.home()))
    }

    /// A location as it is stored: a path on the public origin, or a foreign URL.
    fn located(&self, value: &[u8], target: &str) -> Option<String> {
        match self.home().resolve(value, target) {
            LocationTarget::Own(path) => Some(path),
            LocationTarget::Foreign(url) => Some(url),
            LocationTarget::Unusable => None,
        }
    }

    fn recorded(&self, mut fields: HeaderMap, target: &str) -> Fields {
        hygiene::response_fields_from_upstream(&mut fields);
        relocation::record(&mut fields, self.home(), target);
        fields.into()
    }
}

/// Reads what is left if that is little, so that the connection is given back.
async fn finish(body: &mut ResponseBody) {
    let mut left = REMAINDER.1;
    while !body.is_end_stream() {
        match body.piece().await {
            Ok(Some(octets)) if octets.len() <= left => left -= octets.len(),
            _ => return,
        }
    }
}

/// What received of reading a body.
enum BodyRead {
    Whole(OperationBody),
    TooLarge,
    Failed(UpstreamError),
    /// The time limit passed first.
    Late,
    /// The ledger took no chunks, and the process is about to end.
    Unkept(LedgerError),
}

fn kept(
    answer: UpstreamAnswer,
    read: BodyRead,
    outcome: impl FnOnce(UpstreamAnswer) -> Outcome,
    keep: impl FnOnce(OperationBody) -> KeptAnswer,
) -> AttemptResult {
    match read {
        BodyRead::Whole(body) => {
            AttemptResult { answer: Some(keep(body)), ..AttemptResult::of(outcome(answer)) }
        }
        BodyRead::TooLarge => {
            // Nothing of its body is kept, so its end does not matter.
            let kept = KeptAnswer { framing: None, ..keep(OperationBody::empty()) };
            AttemptResult { answer: Some(kept), ..AttemptResult::of(Outcome::TooLarge(answer)) }
        }
        BodyRead::Failed(broken) => broken_off(broken),
        BodyRead::Late => AttemptResult::of(late(SendState::Perhaps)),
        BodyRead::Unkept(error) => {
            let outcome = Outcome::Interrupted { sent: SendState::Perhaps };
            AttemptResult { detail: Some(error.to_string()), ..AttemptResult::of(outcome) }
        }
    }
}

fn broken_off(broken: UpstreamError) -> AttemptResult {
    let outcome = outcome_of(&broken);
    AttemptResult { detail: Some(broken.detail), ..AttemptResult::of(outcome) }
}

/// The recorded response where an earlier attempt removed the resource.
pub(super) fn of_a_removal(status: u16) -> AttemptResult {
    let kept = KeptAnswer {
        status: StatusCode::NO_CONTENT.as_u16(),
        fields: cloakroom_domain::Fields::new(),
        body: OperationBody::empty(),
        framing: None,
        created_location: None,
    };
    AttemptResult { answer: Some(kept), ..AttemptResult::of(Outcome::TookEffect { status }) }
}

/// The outcome of an attempt without a usable response.
pub(super) const fn outcome_of(broken: &UpstreamError) -> Outcome {
    match broken.received {
        ResponseReceived::Nothing => Outcome::Broken { sent: broken.sent, cause: broken.cause },
        ResponseReceived::Unreadable { status } => Outcome::Unreadable { status },
    }
}

/// The outcome of an attempt whose time is up.
pub(super) const fn late(sent: SendState) -> Outcome {
    Outcome::Broken { sent, cause: ErrorCode::UpstreamTimeout }
}

async fn body(
    engine: &EngineContext,
    body: &mut ResponseBody,
    limit: u64,
    time_left: &mut AttemptTimeout<'_>,
) -> BodyRead {
    if body.length().is_some_and(|length| length > limit) {
        return BodyRead::TooLarge;
    }
    let key = BodyKey(rand::random());
    let (mut chunker, mut writer) = (BodyChunker::new(key), BodyWriter::new(engine, key));
    loop {
        match time_left.wait_for(body.piece()).await {
            Ok(Ok(Some(octets))) => chunker.push(octets),
            Ok(Ok(None)) => break,
            Ok(Err(broken)) => return BodyRead::Failed(broken),
            Err(_) => return BodyRead::Late,
        }
        if chunker.length() > limit {
            return BodyRead::TooLarge;
        }
        while let Some(piece) = chunker.next_chunk() {
            if let Err(error) = writer.write(piece).await {
                return BodyRead::Unkept(error);
            }
        }
    }
    let (body, last) = chunker.finish();
    if let Some(last) = last
        && let Err(error) = writer.write(last).await
    {
        return BodyRead::Unkept(error);
    }
    writer.keep();
    BodyRead::Whole(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::operation::ResponseFraming;

    fn answer() -> UpstreamAnswer {
        UpstreamAnswer::plain(201)
    }

    fn keep(body: OperationBody) -> KeptAnswer {
        let fields = cloakroom_domain::Fields::new();
        let (framing, created) = (Some(ResponseFraming::Close), Some("/orders/7".into()));
        KeptAnswer { status: 201, fields, body, framing, created_location: created }
    }

    fn ended(read: BodyRead) -> AttemptResult {
        kept(answer(), read, Outcome::Answered, keep)
    }

    #[test]
    fn too_large_a_body_leaves_the_head_and_what_was_created() {
        let AttemptResult { outcome, answer: kept, .. } = ended(BodyRead::TooLarge);
        assert_eq!(outcome, Outcome::TooLarge(answer()));
        assert_eq!(kept, Some(KeptAnswer { framing: None, ..keep(OperationBody::empty()) }));
    }

    #[test]
    fn a_body_that_breaks_off_leaves_it_open_whether_the_upstream_acted() {
        let cause = ErrorCode::UpstreamProtocol;
        let (detail, received) = ("reset".to_owned(), ResponseReceived::Nothing);
        let broken =
            UpstreamError { sent: SendState::Perhaps, cause, detail, is_own: false, received };
        let AttemptResult { outcome, answer, .. } = ended(BodyRead::Failed(broken));
        assert_eq!(outcome, Outcome::Broken { sent: SendState::Perhaps, cause });
        assert_eq!(answer, None);
    }
}
