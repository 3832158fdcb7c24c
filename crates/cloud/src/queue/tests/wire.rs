//! Over the wire, with stock clients.

use tandem_model::{Kind, Urn, plan::Change};

use super::Served;
use crate::stock_clients;

fn environment(served: &Served) -> Vec<(&'static str, String)> {
    stock_clients::two_stacks(served.endpoint, &served.credentials)
}

async fn served() -> Served {
    let served = Served::new().await;
    // Keys are those of stacks that have something.
    for stack in ["shop/dev", "other/dev"] {
        let urn = Urn::new(stack.parse().unwrap(), Kind::Queue, "seed".parse().unwrap());
        served.fixture.apply(&Change::Create { urn, inputs: Default::default() }).await.unwrap();
    }
    served
}

#[tokio::test]
async fn boto3_uses_every_action_of_queues_in_the_json_protocol() {
    let served = served().await;
    stock_clients::run(include_str!("queues.py"), environment(&served)).await;
}

#[tokio::test]
async fn an_older_boto3_uses_every_action_of_queues_in_the_query_protocol() {
    let served = served().await;
    let is_query = "import botocore.session\n\
        protocol = botocore.session.get_session().get_service_model('sqs').metadata['protocol']\n\
        assert protocol == 'query', protocol\n";
    let script = [is_query, include_str!("queues.py")].concat();
    stock_clients::run_old(&script, environment(&served)).await;
}

#[tokio::test]
async fn the_aws_cli_and_the_sdk_for_javascript_send_and_receive() {
    let served = served().await;
    stock_clients::run(include_str!("cli.py"), environment(&served)).await;
    stock_clients::run_node(include_str!("sdk.mjs"), environment(&served)).await;
}
