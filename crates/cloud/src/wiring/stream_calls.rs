//! What programs ask of streams.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use tandem_model::{Explain, Report, inputs::StartingPosition};

use super::{
    ProgramCalls,
    calls::{CallFault, arguments},
};
use crate::{
    call::Caller,
    stream::{Cursor, Outgoing, sequence, shard_id, shown},
};

#[derive(Deserialize)]
struct Put {
    stream: String,
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    key: String,
    /// As text, or in base 64.
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    base64: Option<String>,
}

#[derive(Deserialize)]
struct Read {
    stream: String,
    /// Where an earlier read ended.
    #[serde(default)]
    cursor: Option<Cursor>,
    #[serde(default)]
    from: StartingPosition,
    /// Waits if there is nothing.
    #[serde(default)]
    wait: bool,
}

impl ProgramCalls {
    pub(super) async fn stream_call(
        &self,
        caller: &Caller,
        method: &str,
        args: Value,
    ) -> Result<Value, Report> {
        match method {
            "stream.put" => self.stream_put(caller, arguments(method, args)?).await,
            "stream.read" => self.stream_read(caller, arguments(method, args)?).await,
            _ => Err(CallFault::Unknown { method: method.to_owned() }.report()),
        }
    }

    fn reach_stream(&self, caller: &Caller, stream: &str) -> Result<(), Report> {
        match self.streams.find(stream) {
            Some(found) if found.urn.stack == caller.of.stack => Ok(()),
            _ => Err(CallFault::OutOfReach { what: stream.to_owned() }.report()),
        }
    }

    async fn stream_put(&self, caller: &Caller, put: Put) -> Result<Value, Report> {
        self.reach_stream(caller, &put.stream)?;
        let records = put.records.into_iter().map(|Record { key, data, base64 }| {
            let data = match base64 {
                Some(base64) => STANDARD.decode(base64).map_err(|e| {
                    CallFault::Arguments { method: "stream.put".into(), reason: e.to_string() }.report()
                })?,
                None => data.unwrap_or_default().into_bytes(),
            };
            Ok(Outgoing { key, data: data.into(), hash: None })
        });
        let records = records.collect::<Result<Vec<_>, Report>>()?;
        let put = self.streams.put(&put.stream, records, caller.traceparent.clone()).await;
        let told = put.map_err(|e| e.report())?.into_iter().map(
            |put| json!({ "shard": shard_id(put.shard), "sequenceNumber": sequence(put.shard, put.number) }),
        );
        Ok(told.collect())
    }

    async fn stream_read(&self, caller: &Caller, read: Read) -> Result<Value, Report> {
        self.reach_stream(caller, &read.stream)?;
        let cursor = match read.cursor {
            Some(cursor) => cursor,
            None => self.streams.cursor(&read.stream, read.from).await.map_err(|e| e.report())?,
        };
        let tail = self.streams.read_on(&read.stream, &cursor, read.wait).await.map_err(|e| e.report())?;
        let records: Vec<_> = tail.records.iter().map(|(shard, record)| shown(*shard, record)).collect();
        Ok(json!({ "records": records, "cursor": tail.cursor, "ended": tail.ended }))
    }
}
