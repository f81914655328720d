//! A fake SQS that speaks the SDK's protocol, AWS JSON 1.0: `GetQueueUrl` and
//! `GetQueueAttributes`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::http1::http_date;
use super::sigv4::KeyRing;
use super::{Reply, Request, Upstream};

const JSON: &str = "application/x-amz-json-1.0";

/// The counts of one queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    pub visible: u64,
    pub in_flight: u64,
    pub delayed: u64,
}

#[derive(Default)]
struct Table {
    queues: BTreeMap<String, Queue>,
    hits: BTreeMap<(String, String), u64>,
    faults: BTreeMap<String, Reply>,
    every: Option<Reply>,
    sick: BTreeMap<String, Reply>,
    delay: Duration,
    generation: u64,
    dated: bool,
    ring: Option<KeyRing>,
}

/// A fake SQS.
///
/// The URLs it hands out name a host that does not exist: a client that sends its calls there
/// instead of to its endpoint fails.
pub struct Sqs {
    table: Arc<Mutex<Table>>,
    server: Upstream,
}

impl Sqs {
    /// A server on a free port, without queues.
    pub fn start() -> Self {
        let table = Arc::new(Mutex::new(Table::default()));
        let shared = Arc::clone(&table);
        let server = Upstream::start(move |request| {
            let mut table = shared.lock().expect("no holder panics");
            let mut reply = table.answer(request);
            if let Some(ring) = table.ring.as_ref().filter(|_| table.dated) {
                reply = reply.with_header("date", &http_date(ring.now()));
            }
            if table.delay.is_zero() { reply } else { reply.after(table.delay) }
        });
        Self { table, server }
    }

    /// The server, for its counters and the requests it saw.
    pub fn server(&self) -> &Upstream {
        &self.server
    }

    /// Makes a queue or changes its counts.
    pub fn queue(&self, name: &str, counts: Queue) {
        self.lock().queues.insert(name.to_owned(), counts);
    }

    /// Deletes a queue.
    pub fn delete(&self, name: &str) {
        self.lock().queues.remove(name);
    }

    /// Makes every URL handed out so far wrong, as after a queue was deleted and made anew behind
    /// another URL.
    pub fn move_all(&self) {
        self.lock().generation += 1;
    }

    /// Answers an action (`GetQueueUrl`, `GetQueueAttributes`) with this; `None` ends it.
    pub fn fault(&self, action: &str, reply: Option<Reply>) {
        let mut table = self.lock();
        match reply {
            Some(reply) => table.faults.insert(action.to_owned(), reply),
            None => table.faults.remove(action),
        };
    }

    /// Answers every call with this; `None` ends it.
    pub fn fault_all(&self, reply: Option<Reply>) {
        self.lock().every = reply;
    }

    /// Answers every call about one queue with this; `None` ends it.
    pub fn fault_of(&self, queue: &str, reply: Option<Reply>) {
        let mut table = self.lock();
        match reply {
            Some(reply) => table.sick.insert(queue.to_owned(), reply),
            None => table.sick.remove(queue),
        };
    }

    /// An error in the service's form.
    pub fn error(status: u16, code: &str, message: &str) -> Reply {
        let body = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": message});
        Reply::text(status, JSON, body.to_string())
    }

    /// Waits before every answer.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Checks every call's signature from now on, and whether its identity may do `sqs:` and the
    /// action.
    pub fn check_signatures(&self, ring: &KeyRing) {
        self.lock().ring = Some(ring.clone());
    }

    /// Sends the time with every answer, by which signatures are checked.
    pub fn dated(&self) {
        self.lock().dated = true;
    }

    /// How often an action was called for a queue.
    pub fn hits(&self, action: &str, queue: &str) -> u64 {
        self.lock().hits.get(&(action.to_owned(), queue.to_owned())).copied().unwrap_or(0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().expect("no holder panics")
    }
}

impl Table {
    fn answer(&mut self, request: &Request) -> Reply {
        let target = request.header("x-amz-target").unwrap_or_default();
        let action = target.strip_prefix("AmazonSQS.").unwrap_or(target).to_owned();
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Sqs::error(400, "InvalidParameterValue", "the body is not JSON");
        };
        let url = body["QueueUrl"].as_str().unwrap_or_default();
        let name = body["QueueName"]
            .as_str()
            .or_else(|| url.rsplit('/').next())
            .unwrap_or_default()
            .to_owned();
        *self.hits.entry((action.clone(), name.clone())).or_default() += 1;
        let fault = self.every.as_ref().or(self.sick.get(&name)).or(self.faults.get(&action));
        if let Some(fault) = fault {
            return fault.clone();
        }
        let permission = format!("sqs:{action}");
        let permit = |ring: &KeyRing| ring.permit(request, "sqs", None, &permission);
        if let Some(Err(rejection)) = self.ring.as_ref().map(permit) {
            // In this service's texts the action is in lower case.
            let message = rejection.message().replace(&permission, &permission.to_lowercase());
            let compatible = format!("{};Sender", rejection.query_code());
            return Sqs::error(403, rejection.json_code(), &message)
                .with_header("x-amzn-query-error", &compatible);
        }
        let missing = || {
            Sqs::error(400, "QueueDoesNotExist", "The specified queue does not exist.")
                .with_header("x-amzn-query-error", "AWS.SimpleQueueService.NonExistentQueue;Sender")
        };
        let Some(queue) = self.queues.get(&name) else { return missing() };
        let account = body["QueueOwnerAWSAccountId"].as_str().unwrap_or("111122223333");
        let base = format!("http://queue.invalid:1/{}", self.generation);
        match action.as_str() {
            "GetQueueUrl" => {
                let body = json!({"QueueUrl": format!("{base}/{account}/{name}")});
                Reply::text(200, JSON, body.to_string())
            }
            "GetQueueAttributes" if !url.starts_with(&base) => missing(),
            "GetQueueAttributes" => {
                let asked = |name: &str| {
                    body["AttributeNames"]
                        .as_array()
                        .is_some_and(|all| all.iter().any(|a| a == name))
                };
                let counts = [
                    ("ApproximateNumberOfMessages", queue.visible),
                    ("ApproximateNumberOfMessagesNotVisible", queue.in_flight),
                    ("ApproximateNumberOfMessagesDelayed", queue.delayed),
                ];
                let attributes: BTreeMap<&str, String> = counts
                    .into_iter()
                    .filter(|(name, _)| asked(name))
                    .map(|(name, count)| (name, count.to_string()))
                    .collect();
                Reply::text(200, JSON, json!({"Attributes": attributes}).to_string())
            }
            _ => Sqs::error(400, "InvalidAction", "the fake does not know this action"),
        }
    }
}
