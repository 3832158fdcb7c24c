//! What programs ask of queues.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tandem_model::{Explain, Report};

use super::{
    ProgramCalls,
    calls::{CallFault, arguments, key},
};
use crate::{
    archive,
    call::Caller,
    queue::{Attribute, Outgoing, Receive, shown},
};

#[derive(Deserialize)]
struct Send {
    queue: String,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    body: String,
    #[serde(default)]
    delay: Option<u32>,
    #[serde(default)]
    attributes: Option<BTreeMap<String, Attribute>>,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    deduplication_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceiveArguments {
    queue: String,
    max: usize,
    #[serde(default)]
    wait: Option<f64>,
    #[serde(default)]
    visibility_timeout: Option<u32>,
}

#[derive(Deserialize)]
struct Delete {
    queue: String,
    receipts: Vec<String>,
}

#[derive(Deserialize)]
struct Hide {
    queue: String,
    receipt: String,
    seconds: u32,
}

impl ProgramCalls {
    pub(super) async fn queue_call(
        &self,
        caller: &Caller,
        method: &str,
        args: Value,
    ) -> Result<Value, Report> {
        match method {
            "queue.send" => self.queue_send(caller, arguments(method, args)?).await,
            "queue.receive" => self.queue_receive(caller, arguments(method, args)?).await,
            "queue.delete" => {
                let Delete { queue, receipts } = arguments(method, args)?;
                self.reach_queue(caller, &queue)?;
                let answers = self.queues.delete(&queue, receipts).await.map_err(|e| e.report())?;
                answers.into_iter().collect::<Result<Vec<()>, _>>().map_err(|e| e.report())?;
                Ok(Value::Null)
            }
            "queue.hide" => {
                let Hide { queue, receipt, seconds } = arguments(method, args)?;
                self.reach_queue(caller, &queue)?;
                let changes = vec![(receipt, seconds)];
                let answers = self.queues.change_visibility(&queue, changes).await.map_err(|e| e.report())?;
                answers.into_iter().collect::<Result<Vec<()>, _>>().map_err(|e| e.report())?;
                Ok(Value::Null)
            }
            _ => Err(CallFault::Unknown { method: method.to_owned() }.report()),
        }
    }

    fn reach_queue(&self, caller: &Caller, queue: &str) -> Result<(), Report> {
        match self.queues.find(queue) {
            Some(found) if found.urn.stack == caller.of.stack => Ok(()),
            _ => Err(CallFault::OutOfReach { what: queue.to_owned() }.report()),
        }
    }

    async fn queue_send(&self, caller: &Caller, send: Send) -> Result<Value, Report> {
        self.reach_queue(caller, &send.queue)?;
        // A handler that runs again sends what a FIFO queue recognises (I4).
        let needs_id = self.queues.needs_deduplication_id(&send.queue).await.map_err(|e| e.report())?;
        let call = key(caller)
            .filter(|_| needs_id)
            .map(|key| archive::hash(key.as_bytes())["sha256:".len()..].to_owned());
        let outgoing = send.messages.into_iter().enumerate().map(|(n, message)| Outgoing {
            body: message.body,
            delay: message.delay,
            attributes: message.attributes.unwrap_or_default(),
            group: message.group,
            deduplication: message.deduplication_id.or_else(|| Some(format!("{}-{n}", call.as_ref()?))),
            trace: None,
            sender: caller.of.to_string(),
            traceparent: caller.traceparent.clone(),
        });
        let sent = self.queues.send(&send.queue, outgoing.collect()).await.map_err(|e| e.report())?;
        let told = sent.into_iter().map(|sent| match sent {
            Ok(sent) => json!({ "id": sent.id, "sequenceNumber": sent.sequence }),
            Err(error) => json!({ "error": error.to_string(), "code": error.code() }),
        });
        Ok(told.collect())
    }

    async fn queue_receive(&self, caller: &Caller, receive: ReceiveArguments) -> Result<Value, Report> {
        self.reach_queue(caller, &receive.queue)?;
        let wait = receive.wait.map(|wait| Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX));
        let how = Receive { most: receive.max, visibility: receive.visibility_timeout, wait, own: false };
        let received = self.queues.receive(&receive.queue, &how).await.map_err(|e| e.report())?;
        let told = received.iter().map(|received| {
            let mut message = shown(received);
            message["receipt"] = received.receipt.as_str().into();
            message
        });
        Ok(told.collect())
    }
}
