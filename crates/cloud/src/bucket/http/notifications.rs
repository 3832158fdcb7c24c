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
            ("QueueConfiguration", given.queue_configurations.is_some_and(|list| !list.is_empty())),
            ("TopicConfiguration", given.topic_configurations.is_some_and(|list| !list.is_empty())),
            ("EventBridgeConfiguration", given.event_bridge_configuration.is_some()),
        ];
        if let Some((name, _)) = elsewhere.iter().find(|(_, is_given)| *is_given) {
            return Err(s3_error!(
                NotImplemented,
                "{name} is not supported: name a function in a CloudFunctionConfiguration, or subscribe in the program by \
                 `bucket.onPut` and `bucket.onDelete`"
            ));
        }
        let functions = given.lambda_function_configurations.unwrap_or_default();
        let read = functions.into_iter().map(|function| self.read_notification(&bucket.urn.stack, function));
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
        Ok(S3Response::new(GetBucketNotificationConfigurationOutput {
            lambda_function_configurations: (!all.is_empty()).then(|| all.into_iter().map(write).collect()),
            ..GetBucketNotificationConfigurationOutput::default()
        }))
    }

    fn read_notification(
        &self,
        stack: &StackId,
        given: LambdaFunctionConfiguration,
    ) -> S3Result<Notification> {
        let events: Vec<String> = given.events.into_iter().map(String::from).collect();
        if let Some(event) = events.iter().find(|event| is_of_s3(event)) {
            return Err(s3_error!(NotImplemented, "the event {event} is not supported"));
        }
        let arn = given.lambda_function_arn;
        Ok(Notification {
            id: given.id.filter(|id| !id.is_empty()).unwrap_or_else(|| Uuid::new_v4().to_string()),
            function: self.function(stack, &arn)?,
            arn,
            events,
            filter: read_filter(given.filter)?,
        })
    }

    /// The function of an ARN, if the bucket's stack has it (I8).
    fn function(&self, stack: &StackId, arn: &str) -> S3Result<Urn> {
        let name = function_name(arn).ok_or_else(|| {
            invalid(format!(
                "`{arn}` is not the ARN of a function; a function's output `arn` is. A task is subscribed in the program, by \
                 `bucket.onPut`"
            ))
        })?;
        let found = self.buckets.resources.by_id(Kind::Function, &PhysicalId(name.to_owned()));
        let found = found.filter(|function| function.urn.stack == *stack).ok_or_else(|| {
            invalid(format!(
                "Unable to validate the following destination configurations: there is no function `{name}` in the stack \
                 `{stack}` of the bucket"
            ))
        })?;
        Ok(found.urn.clone())
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

fn write(notification: Notification) -> LambdaFunctionConfiguration {
    let Notification { id, arn, events, filter, .. } = notification;
    let rule = |(name, value): (&'static str, Option<String>)| {
        value.map(|value| FilterRule { name: Some(FilterRuleName::from_static(name)), value: Some(value) })
    };
    let rules = [(FilterRuleName::PREFIX, filter.prefix), (FilterRuleName::SUFFIX, filter.suffix)];
    let rules: Vec<FilterRule> = rules.into_iter().filter_map(rule).collect();
    LambdaFunctionConfiguration {
        id: Some(id),
        lambda_function_arn: arn,
        events: events.into_iter().map(Event::from).collect(),
        filter: (!rules.is_empty()).then_some(NotificationConfigurationFilter {
            key: Some(S3KeyFilter { filter_rules: Some(rules) }),
        }),
    }
}
