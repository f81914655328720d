//! AWS Signature Version 4, checked from its description ("Create a signed AWS API request" in
//! the IAM user guide), and the keys that may sign. Independent of the code under test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::Request;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a request's date may be from now.
const SKEW: i64 = 5 * 60;

/// An access key and what it stands for.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub secret: String,
    /// Temporary keys come with one.
    pub session_token: Option<String>,
    /// Seconds since the epoch.
    pub expires: Option<i64>,
    /// What error messages call it: `arn:aws:sts::...:assumed-role/NAME/SESSION` for a role.
    pub principal: String,
    /// The role that was assumed.
    pub role: Option<String>,
}

/// Who signed a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub access_key: String,
    pub principal: String,
    pub role: Option<String>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No signature.
    Missing,
    /// Something of it is missing.
    Incomplete(String),
    /// Nobody has this key, or not with this session token.
    UnknownKey,
    /// The key's time is over.
    Expired,
    /// Not what the secret would have signed.
    Mismatch(String),
    /// The identity may not do this.
    Denied { principal: String, action: String },
}

impl Rejection {
    /// The code in services of the query protocol: STS, and `CloudWatch` for compatibility.
    pub fn query_code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationToken",
            Self::Incomplete(_) => "IncompleteSignature",
            Self::UnknownKey => "InvalidClientTokenId",
            Self::Expired => "ExpiredToken",
            Self::Mismatch(_) => "SignatureDoesNotMatch",
            Self::Denied { .. } => "AccessDenied",
        }
    }

    /// The code in services of the JSON protocols: SQS, managed Prometheus.
    pub fn json_code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::UnknownKey => "UnrecognizedClientException",
            Self::Expired => "ExpiredTokenException",
            Self::Mismatch(_) => "InvalidSignatureException",
            Self::Denied { .. } => "AccessDeniedException",
        }
    }

    /// The service's words.
    pub fn message(&self) -> String {
        match self {
            Self::Missing => "Missing Authentication Token".to_owned(),
            Self::Incomplete(what) | Self::Mismatch(what) => what.clone(),
            Self::UnknownKey => "The security token included in the request is invalid.".to_owned(),
            Self::Expired => "The security token included in the request is expired".to_owned(),
            Self::Denied { principal, action } => format!(
                "User: {principal} is not authorized to perform: {action} because no identity-based policy allows the {action} action"
            ),
        }
    }
}

#[derive(Default)]
struct Keys {
    known: BTreeMap<String, Key>,
    /// Role or principal, and action.
    denied: BTreeSet<(String, String)>,
    issued: u64,
    /// Instead of the system's clock.
    clock: Option<Box<dyn Fn() -> i64 + Send + Sync>>,
    /// Added to the clock.
    ahead: i64,
}

/// The keys that the fakes of one test know. Clones share them.
#[derive(Clone, Default)]
pub struct KeyRing {
    keys: Arc<Mutex<Keys>>,
}

impl KeyRing {
    /// A ring with one user's key that does not expire.
    pub fn with_user(access_key: &str, secret: &str) -> Self {
        let ring = Self::default();
        ring.add_user(access_key, secret);
        ring
    }

    /// Adds a user's key that does not expire.
    pub fn add_user(&self, access_key: &str, secret: &str) {
        self.add(Key {
            id: access_key.to_owned(),
            secret: secret.to_owned(),
            session_token: None,
            expires: None,
            principal: format!("arn:aws:iam::111122223333:user/{access_key}"),
            role: None,
        });
    }

    /// Adds a key.
    pub fn add(&self, key: Key) {
        self.lock().known.insert(key.id.clone(), key);
    }

    /// Takes a key away.
    pub fn remove(&self, access_key: &str) {
        self.lock().known.remove(access_key);
    }

    /// Makes a temporary key for a role; each is another one.
    pub fn issue(&self, role: &str, session: &str, lifetime: i64) -> Key {
        let now = self.now();
        let mut keys = self.lock();
        keys.issued += 1;
        let number = keys.issued;
        let account = role.split(':').nth(4).unwrap_or_default();
        let name = role.rsplit('/').next().unwrap_or_default();
        let key = Key {
            id: format!("ASIA{number:016}"),
            secret: format!("secret-of-{name}-{number}"),
            session_token: Some(format!("token/{name}+{session}=={number}")),
            expires: Some(now + lifetime),
            principal: format!("arn:aws:sts::{account}:assumed-role/{name}/{session}"),
            role: Some(role.to_owned()),
        };
        keys.known.insert(key.id.clone(), key.clone());
        key
    }

    /// Denies an action (`cloudwatch:GetMetricData`) to a role or a user, by ARN.
    pub fn deny(&self, who: &str, action: &str) {
        self.lock().denied.insert((who.to_owned(), action.to_owned()));
    }

    /// Takes a denial back.
    pub fn allow(&self, who: &str, action: &str) {
        self.lock().denied.remove(&(who.to_owned(), action.to_owned()));
    }

    /// Ends all temporary keys of a role.
    pub fn expire(&self, role: &str) {
        let now = self.now();
        let mut keys = self.lock();
        for key in keys.known.values_mut().filter(|key| key.role.as_deref() == Some(role)) {
            key.expires = Some(now - 1);
        }
    }

    /// Moves the clock of signatures and expiries away from the system's, in seconds.
    pub fn set_ahead(&self, seconds: i64) {
        self.lock().ahead = seconds;
    }

    /// Takes the time of signatures and expiries from a clock.
    pub fn clock(&self, clock: impl Fn() -> i64 + Send + Sync + 'static) {
        self.lock().clock = Some(Box::new(clock));
    }

    /// Seconds since the epoch, for signatures and expiries.
    pub fn now(&self) -> i64 {
        let keys = self.lock();
        let system = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            i64::try_from(now).expect("the time fits")
        };
        keys.clock.as_ref().map_or_else(system, |clock| clock()) + keys.ahead
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().expect("no holder panics")
    }

    /// Checks a request's signature and whether its identity may do an action.
    pub fn permit(
        &self,
        request: &Request,
        service: &str,
        region: Option<&str>,
        action: &str,
    ) -> Result<Identity, Rejection> {
        let identity = verify(request, self, service, region, self.now())?;
        let who = [Some(&identity.principal), identity.role.as_ref()];
        let keys = self.lock();
        let denied = who
            .into_iter()
            .flatten()
            .any(|who| keys.denied.contains(&(who.clone(), action.to_owned())));
        drop(keys);
        if denied {
            let principal = identity.principal;
            return Err(Rejection::Denied { principal, action: action.to_owned() });
        }
        Ok(identity)
    }
}

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn of(request: &'a Request) -> Result<Self, Rejection> {
        let header = request.header("authorization").ok_or(Rejection::Missing)?;
        let incomplete = |what: &str| {
            Rejection::Incomplete(format!("Authorization header requires {what}: '{header}'"))
        };
        let parts = header.strip_prefix(ALGORITHM).ok_or_else(|| incomplete(ALGORITHM))?;
        let part = |name: &str| {
            let mut all = parts.split(',').filter_map(|part| part.trim().split_once('='));
            let found = all.find(|(n, _)| *n == name).map(|(_, value)| value);
            found.ok_or_else(|| incomplete(&format!("'{name}' parameter")))
        };
        let scope: Vec<&str> = part("Credential")?.split('/').collect();
        let [access_key, date, region, service, "aws4_request"] = scope[..] else {
            return Err(incomplete("a valid 'Credential'"));
        };
        let signed = part("SignedHeaders")?.split(';').collect();
        Ok(Self { access_key, date, region, service, signed, signature: part("Signature")? })
    }
}

/// The access key and the region that a request's signature claims, unchecked.
pub(super) fn claimed(request: &Request) -> Option<(String, String)> {
    let claim = Authorization::of(request).ok()?;
    Some((claim.access_key.to_owned(), claim.region.to_owned()))
}

/// Checks a signature. `region`: none means any.
pub fn verify(
    request: &Request,
    ring: &KeyRing,
    service: &str,
    region: Option<&str>,
    now: i64,
) -> Result<Identity, Rejection> {
    let claim = Authorization::of(request)?;
    let key = ring.lock().known.get(claim.access_key).cloned().ok_or(Rejection::UnknownKey)?;
    if key.session_token.as_deref() != request.header("x-amz-security-token") {
        return Err(Rejection::UnknownKey);
    }
    if key.expires.is_some_and(|expires| expires <= now) {
        return Err(Rejection::Expired);
    }
    let mismatch = |what: &str| Err(Rejection::Mismatch(what.to_owned()));
    if claim.service != service {
        return mismatch(&format!("Credential should be scoped to correct service: '{service}'."));
    }
    if region.is_some_and(|region| region != claim.region) {
        return mismatch("Credential should be scoped to a valid region.");
    }
    let date = request
        .header("x-amz-date")
        .ok_or_else(|| Rejection::Incomplete("'X-Amz-Date' header is required".to_owned()))?;
    if !date.starts_with(claim.date) {
        return mismatch(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP",
        );
    }
    match jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date) {
        Err(_) => {
            return mismatch(&format!("Date must be in ISO-8601 'basic format'. Got '{date}'."));
        }
        Ok(at) => {
            let at = at.to_zoned(jiff::tz::TimeZone::UTC).expect("UTC has all times");
            let late = now - at.timestamp().as_second();
            if late > SKEW {
                return mismatch(&format!(
                    "Signature expired: {date} is now earlier than 5 min. ago"
                ));
            } else if late < -SKEW {
                return mismatch(&format!(
                    "Signature not yet current: {date} is still later than in 5 min."
                ));
            }
        }
    }
    if let Some(missing) = unsigned(request, &claim.signed) {
        return mismatch(&format!(
            "'{missing}' must be a 'SignedHeader' in the AWS Authorization."
        ));
    }
    let hash = hex(&Sha256::digest(&request.body));
    if request.header("x-amz-content-sha256").is_some_and(|claimed| claimed != hash) {
        return mismatch(
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        );
    }
    let canonical = canonical_request(request, &claim.signed, &hash);
    let expected = sign(&key.secret, &claim, date, &canonical);
    if expected != claim.signature {
        return mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
        );
    }
    Ok(Identity { access_key: key.id, principal: key.principal, role: key.role })
}

/// A header that has to be signed and is not: the host, and everything of AWS's own.
fn unsigned<'a>(request: &'a Request, signed: &[&str]) -> Option<&'a str> {
    let own = request.headers.iter().map(|(name, _)| name.as_str());
    let needed = own.filter(|name| *name == "host" || name.starts_with("x-amz-"));
    needed.chain(["host", "x-amz-date"]).find(|name| !signed.contains(name))
}

/// The canonical request of the description's step 1.
pub fn canonical_request(request: &Request, signed: &[&str], body_hash: &str) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let mut headers = String::new();
    for name in signed {
        let values: Vec<String> = request
            .headers(name)
            .iter()
            .map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        headers.extend([name, ":", &values.join(","), "\n"]);
    }
    [
        &request.method,
        &canonical_path(path),
        &canonical_query(query),
        &headers,
        &signed.join(";"),
        body_hash,
    ]
    .join("\n")
}

/// The path as sent, without dots and empty segments, encoded once more: all services but S3.
fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let trailing = path.ends_with('/') && !segments.is_empty();
    let encoded: Vec<String> = segments.iter().map(|s| encode(s.as_bytes())).collect();
    format!("/{}{}", encoded.join("/"), if trailing { "/" } else { "" })
}

/// Parameters sorted by name and value. A space has to be sent as `%20`: a plus is a plus.
fn canonical_query(query: &str) -> String {
    let again =
        |text: &str| encode(&percent_encoding::percent_decode_str(text).collect::<Vec<_>>());
    let mut parameters: Vec<(String, String)> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .map(|(name, value)| (again(name), again(value)))
        .collect();
    parameters.sort();
    let parameters: Vec<String> = parameters.iter().map(|(n, v)| format!("{n}={v}")).collect();
    parameters.join("&")
}

fn encode(bytes: &[u8]) -> String {
    let mut encoded = String::new();
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                encoded.push('%');
                digits(&mut encoded, b"0123456789ABCDEF", byte);
            }
        }
    }
    encoded
}

/// A byte as two digits.
fn digits(text: &mut String, alphabet: &[u8; 16], byte: u8) {
    text.extend([byte >> 4, byte & 15].map(|n| char::from(alphabet[usize::from(n)])));
}

/// Steps 2 to 4: the string to sign, the key's chain, the signature.
fn sign(secret: &str, claim: &Authorization<'_>, date: &str, canonical: &str) -> String {
    let Authorization { date: day, region, service, .. } = claim;
    let hash = hex(&Sha256::digest(canonical));
    let text = format!("{ALGORITHM}\n{date}\n{day}/{region}/{service}/aws4_request\n{hash}");
    let key = [*day, *region, *service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    hex(&hmac(&key, text.as_bytes()))
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        digits(&mut text, b"0123456789abcdef", byte);
    }
    text
}
