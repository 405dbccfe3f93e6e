//! What a resource API is measured against: hyper and rustls that answer the
//! same bytes and do nothing else.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Pieces in which a list leaves, as the resource API's.
const CHUNK: usize = 64 << 10;

/// The bytes of its answers.
#[derive(Debug)]
pub struct Content {
    /// To GET and POST.
    pub object: Bytes,
    /// To GET of `/list`, in pieces.
    pub list: Bytes,
    /// To GET of `/watch/N`, so many times.
    pub frame: Bytes,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn pieces(chunks: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    let frames = futures::stream::iter(chunks).map(|chunk| Ok(Frame::data(chunk)));
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

async fn answer(content: &Content, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if request.method() == Method::POST {
        // What cannot be read is not answered either.
        let _ = request.into_body().collect().await;
    }
    let body = if path == "/list" {
        let list = content.list.clone();
        let starts = (0..list.len()).step_by(CHUNK);
        pieces(starts.map(move |at| list.slice(at..(at + CHUNK).min(list.len()))))
    } else if let Some(count) = path.strip_prefix("/watch/") {
        let frame = content.frame.clone();
        pieces((0..count.parse().unwrap_or(0)).map(move |_| frame.clone()))
    } else {
        BodyExt::boxed_unsync(Full::new(content.object.clone()))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// Serves with a certificate and a key in PEM until the process ends.
///
/// # Errors
/// The files or the address are no good.
pub async fn serve(address: &str, cert: &Path, key: &Path, content: Content) -> Result<()> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)?.collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certs?, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await?;
    let content = Arc::new(content);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, content) = (acceptor.clone(), content.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| {
                let content = content.clone();
                async move { Ok::<_, Infallible>(answer(&content, request).await) }
            });
            // A client that leaves is no failure.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
