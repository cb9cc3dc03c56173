//! A real S3 server in this process, which checks signatures: for whoever needs objects.

use std::{net::SocketAddr, path::PathBuf};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// One that keeps its objects in a folder, for as long as it is held.
#[derive(Debug)]
pub struct S3Server {
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    accepting: tokio::task::JoinHandle<()>,
}

/// What [`S3Server::start`] knows.
pub const ACCESS_KEY: &str = "CEDARGATETEST";

/// Its secret.
pub const SECRET_KEY: &str = "planted/s3+secret-key-0123456789abcdef";

impl S3Server {
    /// Starts one with these buckets.
    ///
    /// # Errors
    ///
    /// When there is no port or no folder for it.
    pub async fn start(buckets: &[&str]) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        for bucket in buckets {
            std::fs::create_dir(folder.path().join(bucket))?;
        }
        let files = FileSystem::new(folder.path())
            .map_err(|error| std::io::Error::other(format!("{error:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    // A client that goes away is no failure of the server's.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self {
            address,
            folder,
            accepting,
        })
    }

    /// Where an object is kept.
    #[must_use]
    pub fn path(&self, bucket: &str, key: &str) -> PathBuf {
        self.folder.path().join(bucket).join(key)
    }

    /// Parts of uploads that are neither completed nor aborted.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn unfinished(&self) -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.folder.path())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(".upload") || name.starts_with(".tmp.") {
                names.push(name);
            }
        }
        Ok(names)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
