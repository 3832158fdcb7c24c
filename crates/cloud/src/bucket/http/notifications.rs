//! The notification configuration on the wire.

use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, dto::*, s3_error};
use tandem_model::{Kind, PhysicalId, StackId, Urn, inputs::Filter};
use uuid::Uuid;

use super::{Answer, Wire, error::wire};
use crate::bucket::notification::{Notification, Notifications, fault, is_of_s3};

fn invalid(message: impl Into<String>) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message.into())
}

impl Wire {
    /// Replaces all notifications of the bucket. Functions are looked for whatever `x-amz-skip-destination-validation`
    /// says: none can be reached that is not there.
    pub(super) async fn put_notifications(
        &self,
        req: S3Request<PutBucketNotificationConfigurationInput>,
    ) -> Answer<PutBucketNotificationConfigurationOutput> {
        let bucket = self.find(&req.input.bucket)?;
        let given = req.input.notification_configuration;
        let elsewhere = [
            ("TopicConfiguration", given.topic_configurations.is_some_and(|list| !list.is_empty())),
            ("EventBridgeConfiguration", given.event_bridge_configuration.is_some()),
        ];
        if let Some((name, _)) = elsewhere.iter().find(|(_, is_given)| *is_given) {
            return Err(s3_error!(
                NotImplemented,
                "{name} is not supported: name a function in a CloudFunctionConfiguration or a queue in a QueueConfiguration, or \
                 subscribe in the program by `bucket.onPut` and `bucket.onDelete`"
            ));
        }
        let functions = given.lambda_function_configurations.unwrap_or_default().into_iter().map(Given::from);
        let queues = given.queue_configurations.unwrap_or_default().into_iter().map(Given::from);
        let read = functions.chain(queues).map(|given| self.read_notification(&bucket.urn.stack, given));
        let notifications = Notifications { all: read.collect::<S3Result<_>>()? };
        if let Some(fault) = fault(&notifications) {
            return Err(invalid(fault));
        }
        let set = match notifications.all[..] {
            [] => self.buckets.delete_setting::<Notifications>(&req.input.bucket).await,
            _ => self.buckets.put_setting(&req.input.bucket, &notifications).await,
        };
        set.map_err(wire)?;
        Ok(S3Response::new(PutBucketNotificationConfigurationOutput {}))
    }

    pub(super) fn get_notifications(
        &self,
        input: &GetBucketNotificationConfigurationInput,
    ) -> Answer<GetBucketNotificationConfigurationOutput> {
        let Notifications { all } = self.buckets.setting(&input.bucket).map_err(wire)?.unwrap_or_default();
        let (queues, functions): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|notification| notification.consumer.kind == Kind::Queue);
        let functions = functions.into_iter().map(|notification| {
            let (id, arn, events, filter) = write(notification);
            LambdaFunctionConfiguration { id, lambda_function_arn: arn, events, filter }
        });
        let queues = queues.into_iter().map(|notification| {
            let (id, arn, events, filter) = write(notification);
            QueueConfiguration { id, queue_arn: arn, events, filter }
        });
        Ok(S3Response::new(GetBucketNotificationConfigurationOutput {
            lambda_function_configurations: (functions.len() > 0).then(|| functions.collect()),
            queue_configurations: (queues.len() > 0).then(|| queues.collect()),
            ..GetBucketNotificationConfigurationOutput::default()
        }))
    }

    fn read_notification(&self, stack: &StackId, given: Given) -> S3Result<Notification> {
        let events: Vec<String> = given.events.into_iter().map(String::from).collect();
        if let Some(event) = events.iter().find(|event| is_of_s3(event)) {
            return Err(s3_error!(NotImplemented, "the event {event} is not supported"));
        }
        let arn = given.arn;
        Ok(Notification {
            id: given.id.filter(|id| !id.is_empty()).unwrap_or_else(|| Uuid::new_v4().to_string()),
            consumer: match given.kind {
                Kind::Queue => self.queue(stack, &arn)?,
                _ => self.function(stack, &arn)?,
            },
            arn,
            events,
            filter: read_filter(given.filter)?,
        })
    }

    /// The queue of an ARN, if the bucket's stack has it. S3 takes no FIFO queues.
    fn queue(&self, stack: &StackId, arn: &str) -> S3Result<Urn> {
        let parts: Vec<&str> = arn.split(':').collect();
        let ["arn", _, "sqs", _, _, name] = parts[..] else {
            return Err(invalid(format!("`{arn}` is not the ARN of a queue; a queue's output `arn` is")));
        };
        if name.ends_with(".fifo") {
            return Err(invalid("FIFO queues are not supported as destinations of notifications"));
        }
        self.destination(stack, Kind::Queue, name)
    }

    /// The function of an ARN, if the bucket's stack has it (I8).
    fn function(&self, stack: &StackId, arn: &str) -> S3Result<Urn> {
        let name = function_name(arn).ok_or_else(|| {
            invalid(format!(
                "`{arn}` is not the ARN of a function; a function's output `arn` is. A task is subscribed in the program, by \
                 `bucket.onPut`"
            ))
        })?;
        self.destination(stack, Kind::Function, name)
    }

    /// What is told, if the bucket's stack has it (I8).
    fn destination(&self, stack: &StackId, kind: Kind, name: &str) -> S3Result<Urn> {
        let found = self.buckets.resources.by_id(kind, &PhysicalId(name.to_owned()));
        let found = found.filter(|found| found.urn.stack == *stack).ok_or_else(|| {
            invalid(format!(
                "Unable to validate the following destination configurations: there is no {kind} `{name}` in the stack \
                 `{stack}` of the bucket"
            ))
        })?;
        Ok(found.urn.clone())
    }
}

/// A notification as it is given, of either kind.
struct Given {
    kind: Kind,
    id: Option<String>,
    arn: String,
    events: Vec<Event>,
    filter: Option<NotificationConfigurationFilter>,
}

impl From<LambdaFunctionConfiguration> for Given {
    fn from(given: LambdaFunctionConfiguration) -> Self {
        let LambdaFunctionConfiguration { id, lambda_function_arn: arn, events, filter } = given;
        Self { kind: Kind::Function, id, arn, events, filter }
    }
}

impl From<QueueConfiguration> for Given {
    fn from(given: QueueConfiguration) -> Self {
        let QueueConfiguration { id, queue_arn: arn, events, filter } = given;
        Self { kind: Kind::Queue, id, arn, events, filter }
    }
}

/// `f` of `arn:aws:lambda:REGION:ACCOUNT:function:f`, also with the qualifier `$LATEST`, which is the only version that
/// can be named. Region and account say nothing: there is one of each.
fn function_name(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts[..] {
        ["arn", _, "lambda", _, _, "function", name]
        | ["arn", _, "lambda", _, _, "function", name, "$LATEST"] => {
            Some(name).filter(|name| !name.is_empty())
        }
        _ => None,
    }
}

fn read_filter(given: Option<NotificationConfigurationFilter>) -> S3Result<Filter> {
    let mut filter = Filter::default();
    let rules = given.and_then(|given| given.key).and_then(|key| key.filter_rules).unwrap_or_default();
    for rule in rules {
        let name = rule.name.as_ref().map(|name| name.as_str()).unwrap_or_default();
        let slot = match name.to_ascii_lowercase().as_str() {
            FilterRuleName::PREFIX => &mut filter.prefix,
            FilterRuleName::SUFFIX => &mut filter.suffix,
            _ => return Err(invalid("filter rule name must be either prefix or suffix")),
        };
        if slot.replace(rule.value.unwrap_or_default()).is_some() {
            return Err(invalid(format!("cannot specify more than one {name} rule in a filter")));
        }
    }
    Ok(filter)
}

type Written = (Option<String>, String, Vec<Event>, Option<NotificationConfigurationFilter>);

fn write(notification: Notification) -> Written {
    let Notification { id, arn, events, filter, .. } = notification;
    let rule = |(name, value): (&'static str, Option<String>)| {
        value.map(|value| FilterRule { name: Some(FilterRuleName::from_static(name)), value: Some(value) })
    };
    let rules = [(FilterRuleName::PREFIX, filter.prefix), (FilterRuleName::SUFFIX, filter.suffix)];
    let rules: Vec<FilterRule> = rules.into_iter().filter_map(rule).collect();
    let key = Some(S3KeyFilter { filter_rules: Some(rules.clone()) });
    let filter = (!rules.is_empty()).then_some(NotificationConfigurationFilter { key });
    (Some(id), arn, events.into_iter().map(Event::from).collect(), filter)
}
