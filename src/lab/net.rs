//! The network between the lab's nodes: a proxy for every directed way. A cut way forwards nothing
//! and closes nothing, like a cable that was pulled: what was sent waits, new connections stay
//! silent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;

use super::layout::Link;

/// Where the proxy is told what to cut.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("net.sock")
}

/// Serves all `links` until the process is ended.
///
/// # Errors
/// When a port or the socket cannot be had.
pub async fn run(dir: &Path, links: Vec<Link>) -> std::io::Result<()> {
    let cut = Arc::new(watch::channel(BTreeSet::<String>::new()).0);
    for link in links {
        let listener = TcpListener::bind(("127.0.0.1", link.listen)).await?;
        let cut = cut.subscribe();
        tokio::spawn(serve(listener, link, cut));
    }
    let path = socket(dir);
    let _ = std::fs::remove_file(&path);
    let control = UnixListener::bind(&path)?;
    loop {
        let (mut stream, _) = control.accept().await?;
        let (read, mut write) = stream.split();
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match line.split_once(' ') {
                Some(("cut", node)) => cut.send_modify(|c| _ = c.insert(node.to_owned())),
                Some(("heal", node)) => cut.send_modify(|c| _ = c.remove(node)),
                _ => {}
            }
            if write.write_all(b"ok\n").await.is_err() {
                break;
            }
        }
    }
}

async fn serve(listener: TcpListener, link: Link, cut: watch::Receiver<BTreeSet<String>>) {
    while let Ok((inward, _)) = listener.accept().await {
        let (link, mut cut) = (link.clone(), cut.clone());
        tokio::spawn(async move {
            if open(&link, &mut cut).await.is_err() {
                return;
            }
            let Ok(outward) = TcpStream::connect(("127.0.0.1", link.target)).await else { return };
            // Without these, small messages wait for acknowledgements.
            let _ = (inward.set_nodelay(true), outward.set_nodelay(true));
            let (in_read, in_write) = inward.into_split();
            let (out_read, out_write) = outward.into_split();
            tokio::select! {
                () = forward(in_read, out_write, link.clone(), cut.clone()) => {}
                () = forward(out_read, in_write, link, cut) => {}
            }
        });
    }
}

/// Waits until the way is open.
async fn open(
    link: &Link,
    cut: &mut watch::Receiver<BTreeSet<String>>,
) -> Result<(), watch::error::RecvError> {
    cut.wait_for(|c| !c.contains(&link.from) && !c.contains(&link.to)).await.map(|_| ())
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    link: Link,
    mut cut: watch::Receiver<BTreeSet<String>>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                // An end is not seen through a cut cable either.
                let _ = open(&link, &mut cut).await;
                return;
            }
            Ok(n) => {
                if open(&link, &mut cut).await.is_err() || to.write_all(&buffer[..n]).await.is_err()
                {
                    return;
                }
            }
        }
    }
}
