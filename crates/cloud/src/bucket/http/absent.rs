//! What S3 answers of what no bucket here has, operation by operation. All of them look whether there is the bucket first.

/// Methods of [`S3`](s3s::S3) that answer the same of any bucket. They are written as `async_trait` would write them: it
/// does not see into macros.
macro_rules! of_any_bucket {
    ($($method:ident: $input:ident => $output:ident = $answer:expr;)*) => {$(
        fn $method<'wire, 'answer>(
            &'wire self,
            req: S3Request<$input>,
        ) -> Pin<Box<dyn Future<Output = Answer<$output>> + Send + 'answer>>
        where
            'wire: 'answer,
            Self: 'answer,
        {
            let answer = self.find(&req.input.bucket).and_then(|_| $answer);
            Box::pin(std::future::ready(answer))
        }
    )*};
}

/// A part of the implementation of [`S3`](s3s::S3).
macro_rules! absent {
    () => {
        of_any_bucket! {
            // What was never configured.
            get_bucket_policy: GetBucketPolicyInput => GetBucketPolicyOutput
                = not_configured(S3ErrorCode::NoSuchBucketPolicy, "policy");
            get_bucket_policy_status: GetBucketPolicyStatusInput => GetBucketPolicyStatusOutput
                = not_configured(S3ErrorCode::NoSuchBucketPolicy, "policy");
            get_bucket_encryption: GetBucketEncryptionInput => GetBucketEncryptionOutput
                = not_configured(
                    S3ErrorCode::ServerSideEncryptionConfigurationNotFoundError,
                    "encryption configuration",
                );
            get_public_access_block: GetPublicAccessBlockInput => GetPublicAccessBlockOutput
                = not_configured(code("NoSuchPublicAccessBlockConfiguration"), "public access block");
            get_bucket_ownership_controls: GetBucketOwnershipControlsInput => GetBucketOwnershipControlsOutput
                = not_configured(S3ErrorCode::OwnershipControlsNotFoundError, "ownership controls");
            get_bucket_website: GetBucketWebsiteInput => GetBucketWebsiteOutput
                = not_configured(S3ErrorCode::NoSuchWebsiteConfiguration, "website configuration");
            get_bucket_replication: GetBucketReplicationInput => GetBucketReplicationOutput
                = not_configured(
                    S3ErrorCode::ReplicationConfigurationNotFoundError,
                    "replication configuration",
                );
            get_object_lock_configuration: GetObjectLockConfigurationInput => GetObjectLockConfigurationOutput
                = not_configured(
                    S3ErrorCode::ObjectLockConfigurationNotFoundError,
                    "object lock configuration",
                );
            get_bucket_analytics_configuration:
                GetBucketAnalyticsConfigurationInput => GetBucketAnalyticsConfigurationOutput
                = not_configured(code("NoSuchConfiguration"), "analytics configuration of that id");
            get_bucket_inventory_configuration:
                GetBucketInventoryConfigurationInput => GetBucketInventoryConfigurationOutput
                = not_configured(code("NoSuchConfiguration"), "inventory configuration of that id");
            get_bucket_metrics_configuration:
                GetBucketMetricsConfigurationInput => GetBucketMetricsConfigurationOutput
                = not_configured(code("NoSuchConfiguration"), "metrics configuration of that id");
            get_bucket_intelligent_tiering_configuration:
                GetBucketIntelligentTieringConfigurationInput => GetBucketIntelligentTieringConfigurationOutput
                = not_configured(code("NoSuchConfiguration"), "tiering configuration of that id");

            // What S3 answers with nothing in it.
            get_bucket_logging: GetBucketLoggingInput => GetBucketLoggingOutput
                = Ok(S3Response::new(Default::default()));
            get_bucket_accelerate_configuration:
                GetBucketAccelerateConfigurationInput => GetBucketAccelerateConfigurationOutput
                = Ok(S3Response::new(Default::default()));

            // Lists that are empty.
            list_bucket_analytics_configurations:
                ListBucketAnalyticsConfigurationsInput => ListBucketAnalyticsConfigurationsOutput
                = empty_list!(ListBucketAnalyticsConfigurationsOutput);
            list_bucket_inventory_configurations:
                ListBucketInventoryConfigurationsInput => ListBucketInventoryConfigurationsOutput
                = empty_list!(ListBucketInventoryConfigurationsOutput);
            list_bucket_metrics_configurations:
                ListBucketMetricsConfigurationsInput => ListBucketMetricsConfigurationsOutput
                = empty_list!(ListBucketMetricsConfigurationsOutput);
            list_bucket_intelligent_tiering_configurations:
                ListBucketIntelligentTieringConfigurationsInput => ListBucketIntelligentTieringConfigurationsOutput
                = empty_list!(ListBucketIntelligentTieringConfigurationsOutput);

            // What may be deleted although it is not there.
            delete_bucket_policy: DeleteBucketPolicyInput => DeleteBucketPolicyOutput
                = deleted(DeleteBucketPolicyOutput {});
            delete_bucket_encryption: DeleteBucketEncryptionInput => DeleteBucketEncryptionOutput
                = deleted(DeleteBucketEncryptionOutput {});
            delete_public_access_block: DeletePublicAccessBlockInput => DeletePublicAccessBlockOutput
                = deleted(DeletePublicAccessBlockOutput {});
            delete_bucket_ownership_controls:
                DeleteBucketOwnershipControlsInput => DeleteBucketOwnershipControlsOutput
                = deleted(DeleteBucketOwnershipControlsOutput {});
            delete_bucket_website: DeleteBucketWebsiteInput => DeleteBucketWebsiteOutput
                = deleted(DeleteBucketWebsiteOutput {});
            delete_bucket_replication: DeleteBucketReplicationInput => DeleteBucketReplicationOutput
                = deleted(DeleteBucketReplicationOutput {});
        }
    };
}

/// A list that is complete and has nothing in it.
macro_rules! empty_list {
    ($output:ident) => {
        Ok(S3Response::new($output { is_truncated: Some(false), ..Default::default() }))
    };
}

pub(super) use {absent, empty_list, of_any_bucket};
