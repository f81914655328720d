//! A fake STS, form in and XML out: `AssumeRole`, `AssumeRoleWithWebIdentity`,
//! `GetCallerIdentity`. The keys it hands out are in the ring that it was started with, so that
//! the other fakes of the test accept them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::sigv4::{self, Identity, Key, KeyRing, Rejection};
use super::{Reply, Request, Upstream};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
/// Calls that are remembered.
const MAX_CALLS: usize = 1_000;
/// Roles assumed by a role's key last at most this long.
const MAX_CHAINED: i64 = 3600;

/// Who may assume a role.
#[derive(Clone, Debug, Default)]
struct Trust {
    external_id: Option<String>,
    web_tokens: Vec<String>,
}

/// One call.
#[derive(Clone, Debug)]
pub struct StsCall {
    pub action: String,
    pub role: Option<String>,
    pub session: Option<String>,
    pub external_id: Option<String>,
    /// Seconds, as asked.
    pub duration: Option<i64>,
    pub web_token: Option<String>,
    /// As the signature claims; empty for a web identity.
    pub access_key: String,
    pub region: String,
}

type FaultWhen = Box<dyn Fn(&StsCall) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct State {
    ring: KeyRing,
    roles: BTreeMap<String, Trust>,
    lifetime: Option<i64>,
    delay: Duration,
    every: Option<Reply>,
    times: Option<(u64, Reply)>,
    fault_when: Option<FaultWhen>,
    calls: Vec<StsCall>,
    answered: BTreeMap<String, u64>,
}

/// A fake STS. Only roles that it was told of can be assumed, by any key of its ring.
pub struct Sts {
    state: Arc<Mutex<State>>,
    server: Upstream,
}

impl Sts {
    /// A server on a free port, without roles.
    pub fn start(ring: &KeyRing) -> Self {
        let state = Arc::new(Mutex::new(State { ring: ring.clone(), ..State::default() }));
        let shared = Arc::clone(&state);
        let server = Upstream::start(move |request| {
            let mut state = shared.lock().expect("no holder panics");
            let reply = state.serve(request);
            if state.delay.is_zero() { reply } else { reply.after(state.delay) }
        });
        Self { state, server }
    }

    /// The server, for its counters and the requests it saw.
    pub fn server(&self) -> &Upstream {
        &self.server
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Lets every key assume a role.
    pub fn role(&self, arn: &str) {
        self.lock().roles.entry(arn.to_owned()).or_default();
    }

    /// Lets every key assume a role that says this external id.
    pub fn role_with_external_id(&self, arn: &str, external_id: &str) {
        let trust = Trust { external_id: Some(external_id.to_owned()), ..Trust::default() };
        self.lock().roles.insert(arn.to_owned(), trust);
    }

    /// Lets the holder of a web identity token assume a role.
    pub fn web_identity(&self, arn: &str, token: &str) {
        self.lock().roles.entry(arn.to_owned()).or_default().web_tokens.push(token.to_owned());
    }

    /// Lets nobody assume a role any more; keys already handed out stay good.
    pub fn refuse(&self, arn: &str) {
        self.lock().roles.remove(arn);
    }

    /// How long keys live from now on, in seconds, whatever is asked.
    pub fn lifetime(&self, seconds: i64) {
        self.lock().lifetime = Some(seconds);
    }

    /// Waits before every answer.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Answers every call with this; `None` ends it.
    pub fn fault(&self, reply: Option<Reply>) {
        self.lock().every = reply;
    }

    /// Answers the next calls with this.
    pub fn fault_times(&self, calls: u64, reply: Reply) {
        self.lock().times = Some((calls, reply));
    }

    /// Answers those calls with a fault for which there is one.
    pub fn fault_when(&self, fault: impl Fn(&StsCall) -> Option<Reply> + Send + Sync + 'static) {
        self.lock().fault_when = Some(Box::new(fault));
    }

    /// An error in the service's form.
    pub fn error(status: u16, code: &str, message: &str) -> Reply {
        let fault = if status < 500 { "Sender" } else { "Receiver" };
        let body = format!(
            "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{fault}</Type><Code>{code}</Code><Message>{}</Message></Error><RequestId>fake</RequestId></ErrorResponse>",
            escape(message)
        );
        Reply::text(status, "text/xml", body)
    }

    /// How often an action was called.
    pub fn hits(&self, action: &str) -> u64 {
        self.lock().answered.get(action).copied().unwrap_or(0)
    }

    /// The calls, oldest first.
    pub fn calls(&self) -> Vec<StsCall> {
        self.lock().calls.clone()
    }

    /// How often a role was asked for.
    pub fn assumed(&self, arn: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.role.as_deref() == Some(arn)).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    fn serve(&mut self, request: &Request) -> Reply {
        let call = StsCall::of(request);
        *self.answered.entry(call.action.clone()).or_default() += 1;
        if self.calls.len() < MAX_CALLS {
            self.calls.push(call.clone());
        }
        if let Some((left, reply)) = &mut self.times
            && *left > 0
        {
            *left -= 1;
            return reply.clone();
        }
        let fault = self.every.clone().or_else(|| self.fault_when.as_ref()?(&call));
        fault.unwrap_or_else(|| self.answer(request, &call).unwrap_or_else(|refused| refused))
    }

    fn answer(&self, request: &Request, call: &StsCall) -> Result<Reply, Reply> {
        let signed = || {
            let action = format!("sts:{}", call.action);
            self.ring.permit(request, "sts", None, &action).map_err(|e| rejected(&e))
        };
        match call.action.as_str() {
            "GetCallerIdentity" => {
                let identity = signed()?;
                let account = identity.principal.split(':').nth(4).unwrap_or_default();
                let inner = format!(
                    "<Arn>{}</Arn><UserId>{}</UserId><Account>{account}</Account>",
                    escape(&identity.principal),
                    identity.access_key
                );
                Ok(result(&call.action, &inner))
            }
            "AssumeRole" => {
                let identity = signed()?;
                let (role, session) = call.validated()?;
                let trust = self.roles.get(role);
                let external_id = call.external_id.as_deref();
                let wrong = trust.is_some_and(|trust| {
                    trust.external_id.is_some() && trust.external_id.as_deref() != external_id
                });
                if trust.is_none() || wrong {
                    return Err(not_authorized(&identity, role));
                }
                let chained = identity.role.is_some();
                Ok(result(&call.action, &granted(&self.grant(call, role, session, chained)?)))
            }
            "AssumeRoleWithWebIdentity" => {
                let (role, session) = call.validated()?;
                let token = call.web_token.as_deref().unwrap_or_default();
                let known =
                    self.roles.values().any(|trust| trust.web_tokens.iter().any(|t| t == token));
                if !known {
                    let message = "Couldn't retrieve verification key from your identity provider";
                    return Err(Sts::error(400, "InvalidIdentityToken", message));
                }
                let trusted =
                    self.roles.get(role).is_some_and(|t| t.web_tokens.iter().any(|t| t == token));
                if !trusted {
                    let message = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
                    return Err(Sts::error(403, "AccessDenied", message));
                }
                Ok(result(&call.action, &granted(&self.grant(call, role, session, false)?)))
            }
            other => {
                let message = format!("Could not find operation {other} for version 2011-06-15");
                Err(Sts::error(400, "InvalidAction", &message))
            }
        }
    }

    fn grant(
        &self,
        call: &StsCall,
        role: &str,
        session: &str,
        chained: bool,
    ) -> Result<Key, Reply> {
        let duration = call.duration.unwrap_or(3600);
        if chained && duration > MAX_CHAINED {
            let message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining";
            return Err(Sts::error(400, "ValidationError", message));
        }
        Ok(self.ring.issue(role, session, self.lifetime.unwrap_or(duration)))
    }
}

impl StsCall {
    fn of(request: &Request) -> Self {
        let (access_key, region) = sigv4::claimed(request).unwrap_or_default();
        let parameter = |name| request.parameter(name);
        Self {
            action: parameter("Action").unwrap_or_default(),
            role: parameter("RoleArn"),
            session: parameter("RoleSessionName"),
            external_id: parameter("ExternalId"),
            duration: parameter("DurationSeconds").and_then(|text| text.parse().ok()),
            web_token: parameter("WebIdentityToken"),
            access_key,
            region,
        }
    }

    /// The role and the session's name, by the API reference's rules.
    fn validated(&self) -> Result<(&str, &str), Reply> {
        let invalid = |what: String| Sts::error(400, "ValidationError", &what);
        let failed = |value: &str, name: &str, constraint: &str| {
            invalid(format!(
                "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: {constraint}"
            ))
        };
        let role = self.role.as_deref().unwrap_or_default();
        if !role.starts_with("arn:") || !role.contains(":role/") {
            return Err(invalid(format!("{role} is invalid")));
        }
        let session = self.session.as_deref().unwrap_or_default();
        let allowed = |text: &str, extra: &str| {
            text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || extra.contains(c))
        };
        if !(2..=64).contains(&session.len()) || !allowed(session, "+=,.@-") {
            let constraint = "Member must satisfy regular expression pattern: [\\w+=,.@-]*";
            return Err(failed(session, "roleSessionName", constraint));
        }
        if let Some(id) = &self.external_id
            && (!(2..=1224).contains(&id.len()) || !allowed(id, "+=,.@:/-"))
        {
            let constraint = "Member must satisfy regular expression pattern: [\\w+=,.@:\\/-]*";
            return Err(failed(id, "externalId", constraint));
        }
        if let Some(duration) = self.duration
            && !(900..=43_200).contains(&duration)
        {
            let constraint = "Member must have value between 900 and 43200";
            return Err(failed(&duration.to_string(), "durationSeconds", constraint));
        }
        Ok((role, session))
    }
}

fn not_authorized(identity: &Identity, role: &str) -> Reply {
    let message = format!(
        "User: {} is not authorized to perform: sts:AssumeRole on resource: {role}",
        identity.principal
    );
    Sts::error(403, "AccessDenied", &message)
}

fn rejected(rejection: &Rejection) -> Reply {
    Sts::error(403, rejection.query_code(), &rejection.message())
}

fn granted(key: &Key) -> String {
    let expires = jiff::Timestamp::from_second(key.expires.unwrap_or_default());
    let expires = expires.expect("a time that can be written");
    format!(
        "<AssumedRoleUser><AssumedRoleId>AROAFAKE:fake</AssumedRoleId><Arn>{}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken><Expiration>{expires}</Expiration></Credentials>",
        escape(&key.principal),
        key.id,
        escape(&key.secret),
        escape(key.session_token.as_deref().unwrap_or_default()),
    )
}

fn result(action: &str, inner: &str) -> Reply {
    let body = format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{inner}</{action}Result><ResponseMetadata><RequestId>fake</RequestId></ResponseMetadata></{action}Response>"
    );
    Reply::text(200, "text/xml", body)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
