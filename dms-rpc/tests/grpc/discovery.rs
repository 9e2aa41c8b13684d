//! Health and reflection.

use std::time::Duration;

use dms_rpc::grpc::{GrpcAuthentication, GrpcLimits};
use futures_util::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use super::support::{Running, ScriptedDocuments, patiently};

const DOCUMENTS: &str = "document.DocumentService";

pub(crate) async fn services_v1(channel: Channel) -> Result<Vec<String>, Status> {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel);
    let requests = futures_util::stream::iter([request]);
    let mut answers = client.server_reflection_info(requests).await?.into_inner();
    match answers.next().await.unwrap()?.message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn reflection_v1_lists_the_services() {
    let server = Running::start(ScriptedDocuments::new().server()).await;
    let services = services_v1(server.channel()).await.unwrap();
    assert!(services.iter().any(|name| name == DOCUMENTS), "{services:?}");
    assert!(services.iter().any(|name| name == "grpc.health.v1.Health"), "{services:?}");
}

#[tokio::test]
async fn reflection_v1alpha_describes_the_service() {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let server = Running::start(ScriptedDocuments::new().server()).await;
    let ask = |request| v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let requests = futures_util::stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(DOCUMENTS.into())),
    ]);
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel());
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let mut next = async || answers.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = next().await else { panic!("no list") };
    assert!(list.service.iter().any(|service| service.name == DOCUMENTS));
    let MessageResponse::FileDescriptorResponse(files) = next().await else { panic!("no file") };
    assert_eq!(files.file_descriptor_proto.len(), 1);
}

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test]
async fn health_says_serving_until_told_otherwise() {
    let server = Running::start(ScriptedDocuments::new().server()).await;
    let mut health = HealthClient::new(server.channel());
    for (serving, expected) in [(true, ServingStatus::Serving), (false, ServingStatus::NotServing)]
    {
        server.health.set_serving(serving).await;
        for service in ["", DOCUMENTS] {
            let answer = health.check(check(service)).await.unwrap().into_inner();
            assert_eq!(answer.status(), expected);
        }
    }
    let status = health.check(check("other.Service")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_watch_is_told_of_the_end_and_does_not_hold_it_up() {
    let limits = GrpcLimits { drain_max: Duration::from_hours(1), ..GrpcLimits::default() };
    let server = ScriptedDocuments::new().server_with(GrpcAuthentication::Off, limits);
    let server = Running::start(server).await;
    let mut health = HealthClient::new(server.channel());
    let mut watch = health.watch(check("")).await.unwrap().into_inner();
    let mut next = async || patiently(watch.next()).await;
    assert_eq!(next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.begin_stop();
    let mut last = None;
    while let Some(Ok(answer)) = next().await {
        last = Some(answer.status());
    }
    // The last word may be lost when the watch ends right after it.
    assert!(last.is_none_or(|status| status == ServingStatus::NotServing));
    server.stopped().await;
}
