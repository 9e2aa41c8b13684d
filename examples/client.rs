//! The typed client: create, watch and sign a document of a running server.
//!
//! Takes the server's address, `http://127.0.0.1:8000` if none is given.

use std::error::Error;

use dms_core::use_cases::CreateDocument;
use dms_rpc::client::DmsClient;
use dms_rpc::types::CreateSignatureBody;
use futures_util::StreamExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8000".into());
    let client = DmsClient::new(&url)?;
    let fields = CreateDocument {
        title: "Agreement".into(),
        created_by: "ann@example.org".into(),
        content_type: None,
    };
    let document = client.create_document(&fields, "What we agree on.", None).await?;
    println!("created {} at version {}", document.id, document.version);

    let mut events = client.events(document.id, None).await?;
    let signature = CreateSignatureBody {
        document_id: document.id,
        signer_email: "bob@example.org".into(),
        signer_name: "Bob".into(),
        signature_data: "base64encodedimage==".into(),
    };
    client.sign(&signature, None).await?;
    while let Some(event) = events.next().await {
        let frame = event?.frame;
        println!("{}: {}", frame.kind, frame.data);
        if frame.kind == "document.signed" {
            break;
        }
    }
    Ok(())
}
