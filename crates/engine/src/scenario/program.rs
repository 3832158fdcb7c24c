//! The programs of scenarios: how they are written, and how they run.

use std::{collections::HashMap, str::FromStr};

use serde_json::{Value, json};
use tandem_model::{Desired, resource::Properties, value};

use super::urn;
use crate::{ApplyError, Summary, Update};

/// What a program declares, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program(Vec<Declaration>);

#[derive(Debug, Clone)]
struct Declaration {
    name: String,
    properties: Vec<(String, String)>,
    needs: Vec<String>,
}

impl FromStr for Program {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let declarations = text.split(';').map(str::trim).filter(|s| !s.is_empty());
        Ok(Self(declarations.map(declaration).collect()))
    }
}

fn declaration(text: &str) -> Declaration {
    let (head, needs) = text.split_once(" needs ").unwrap_or((text, ""));
    let mut words = head.split_whitespace();
    let name = words.next().expect("a declaration names its resource").to_owned();
    let properties = words.map(|word| word.split_once('=').expect("a property has a value"));
    let properties: Vec<_> = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let mut needs: Vec<String> = needs.split_whitespace().map(str::to_owned).collect();
    needs.extend(properties.iter().filter_map(|(_, value)| value.strip_prefix('@').map(str::to_owned)));
    Declaration { name, properties, needs }
}

/// Runs a program to its end: at once what it can, in order what uses outputs.
pub(crate) async fn declare(update: &Update, program: &Program) -> Result<Summary, ApplyError> {
    let mut outputs: HashMap<String, Value> = HashMap::new();
    let mut first_error = None;
    let mut rest = &program.0[..];
    while !rest.is_empty() {
        let ready = rest.iter().take_while(|d| d.uses().all(|name| outputs.contains_key(name))).count();
        let (now, later) = rest.split_at(ready.max(1));
        let registered =
            futures::future::join_all(now.iter().map(|d| update.register(d.desired(&outputs)))).await;
        for (declaration, registered) in now.iter().zip(registered) {
            match registered {
                Ok(registered) => drop(outputs.insert(declaration.name.clone(), registered.outputs)),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        if let Some(error) = first_error {
            update.abandon().await?;
            return Err(error);
        }
        rest = later;
    }
    let exports = outputs.into_iter().filter(|(_, value)| !value::has_unknown(value)).collect();
    update.finish(exports).await
}

impl Declaration {
    fn uses(&self) -> impl Iterator<Item = &str> {
        self.properties.iter().filter_map(|(_, value)| value.strip_prefix('@'))
    }

    fn desired(&self, outputs: &HashMap<String, Value>) -> Desired {
        let inputs: Properties =
            self.properties.iter().map(|(key, text)| (key.clone(), property(text, outputs))).collect();
        let declared_at = Some(format!("index.js:{}", self.name));
        let depends_on = self.needs.iter().map(|name| urn(name)).collect();
        Desired { urn: urn(&self.name), inputs, depends_on, declared_at }
    }
}

fn property(text: &str, outputs: &HashMap<String, Value>) -> Value {
    match text.strip_prefix('@') {
        None => serde_json::from_str(text).expect("a value is JSON"),
        Some(name) => match outputs.get(name) {
            Some(outputs) if outputs.get("token").is_none() => value::unknown(),
            Some(outputs) => outputs["token"].clone(),
            None => json!(null),
        },
    }
}
