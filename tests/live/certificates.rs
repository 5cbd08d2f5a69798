//! Certificates that end, and those that are put in their place: nothing is restarted, and whoever
//! is refused finds the reason in the log of either end.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use quorate::model::Span;
use quorate::model::view::ClusterState;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::fencing::comes_true;
use crate::{Cluster, quick};

const DAY: Duration = Duration::from_secs(24 * 3_600);
const HOLDERS: [(&str, &str); 6] = [
    ("node-1", "node-1/tls"),
    ("node-2", "node-2/tls"),
    ("node-3", "node-3/tls"),
    ("plane", "plane/tls"),
    ("operator", "operator"),
    ("auditor", "auditor"),
];

/// Another authority than the lab's.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "the next authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }
    /// Puts a new certificate and its key where `name` looks for them.
    fn issue(&self, name: &str, folder: &Path, until: SystemTime) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = (SystemTime::now() - 365 * DAY).into();
        params.not_after = until.into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        // One after the other, as anybody would: between the two they do not fit each other.
        std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    }
}

impl Cluster {
    /// `quorate status` as a person types it: what it says, and its exit code.
    fn status(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let identity = self.folder.path().join("lab/operator");
        let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["status", "--identity"])
            .arg(identity)
            .args(arguments)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.code())
    }
    fn log_says(&self, log: &str, words: &str) -> bool {
        let path = self.folder.path().join("lab").join(log);
        std::fs::read_to_string(path).unwrap().lines().any(|line| line.contains(words))
    }
    /// Every connection from and to `node` is made anew.
    fn reconnect(&mut self, node: &str) {
        self.lab().cut(node).unwrap();
        // Twice as long as a connection lives that nothing is heard on.
        self.until("it is silent", 30, |v| {
            let found = v.nodes.iter().find(|n| n.node.as_str() == node);
            found.is_some_and(|n| n.heartbeat_age.is_some_and(|age| age > Span::secs(6)))
        });
        self.lab().heal(node).unwrap();
    }
}

#[test]
fn certificates_are_read_again_and_told_of_before_they_end() {
    let mut cluster = Cluster::start(quick());
    let before = cluster.calm();
    let lab = cluster.folder.path().join("lab");
    let next = Authority::new();
    let in_days = |days: u32| SystemTime::now() + days * DAY;
    assert!(cluster.status(&["--output", "table"]).0.contains("certificates"));

    // Both authorities are trusted while the certificates are replaced; then the new one alone.
    for (_, folder) in HOLDERS {
        let file = lab.join(folder).join("ca.pem");
        let both = std::fs::read_to_string(&file).unwrap() + &next.0.pem();
        std::fs::write(file, both).unwrap();
    }
    for log in ["node-1/agent.log", "node-2/agent.log", "node-3/agent.log", "plane.log"] {
        comes_true("both are read", 20, || cluster.log_says(log, "certificates read again"));
    }
    for (name, folder) in HOLDERS {
        next.issue(name, &lab.join(folder), in_days(100));
    }
    let until = in_days(100);
    let told = |view: &quorate::model::view::ClusterView, node: &str| {
        let found = view.nodes.iter().find(|n| n.node.as_str() == node).unwrap();
        found.report.as_ref().unwrap().certificates[0].until.0
    };
    let ms =
        i64::try_from(until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap();
    for node in ["node-1", "node-2", "node-3"] {
        cluster.until("it uses its new certificate", 20, |v| (told(v, node) - ms).abs() < 60_000);
    }
    for (_, folder) in HOLDERS {
        std::fs::write(lab.join(folder).join("ca.pem"), next.0.pem()).unwrap();
    }
    cluster.reconnect("node-2");
    cluster.calm();

    // A host that answers where nothing listens is told from one that does not answer.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let call = async {
        let tls = &cluster.identity.tls;
        let nobody = quorate::wire::Client::new(&free.to_string(), "node-1", tls).unwrap();
        nobody.call(&quorate::wire::message::CallRequest::View).await
    };
    let refused = cluster.runtime.block_on(call).unwrap_err();
    assert!(refused.closed, "{refused}");

    // Thirteen days are time enough to be told.
    next.issue("node-2", &lab.join("node-2/tls"), in_days(13));
    // A receiver that connects again is told of as well, for a moment.
    cluster.until("it is told", 20, |v| {
        v.state == ClusterState::Degraded
            && v.why.contains("the certificate of node-2 runs out in 12 days")
    });
    assert_eq!(cluster.status(&["--check"]).1, Some(6));
    next.issue("node-2", &lab.join("node-2/tls"), in_days(100));
    cluster.calm();
    next.issue("plane", &lab.join("plane/tls"), in_days(13));
    cluster.until("it is told", 20, |v| {
        v.state == ClusterState::Degraded && v.why.contains("the certificate of the plane")
    });
    next.issue("plane", &lab.join("plane/tls"), in_days(100));
    cluster.calm();
    next.issue("operator", &lab.join("operator"), in_days(2));
    let (said, code) = cluster.status(&["--check"]);
    assert!(said.contains("the certificate of operator runs out") && code == Some(6), "{said}");

    // One that ended: who is refused, and who refuses, both say why. A new one mends it.
    next.issue("node-3", &lab.join("node-3/tls"), SystemTime::now() - DAY);
    cluster.until("it is told", 20, |v| v.why.contains("the certificate of node-3 ran out"));
    cluster.reconnect("node-3");
    comes_true("those who refuse it say why", 30, || {
        cluster.log_says("plane.log", "certificate expired")
            && cluster.log_says("node-1/agent.log", "certificate expired")
    });
    comes_true("the refused one says why", 30, || {
        cluster.log_says("node-3/agent.log", "CertificateExpired")
    });
    next.issue("node-3", &lab.join("node-3/tls"), in_days(100));
    let after = cluster.calm();
    assert_eq!(after.primary, before.primary);
}
