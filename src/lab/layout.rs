//! What is in a lab's folder: ports, certificates, and the same files that production has.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::certificates::{Authority, write_secret};
use crate::access::ApprovalKey;
use crate::model::observation::SIMULATED;
use crate::model::topology::Strategy;

/// What kind of lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// How many standbys confirm a commit.
    pub synchronous_standbys: usize,
    /// Regions that the nodes are spread over, one after the other; 1 is `local`.
    pub regions: usize,
    /// Lease in milliseconds.
    pub lease_ms: u64,
    /// Who decides.
    pub strategy: Strategy,
    /// Simulated databases instead of PostgreSQL.
    pub simulated: bool,
    /// Whether a plane is started.
    pub plane: bool,
    /// Whether agents are started.
    #[serde(default = "yes")]
    pub agents: bool,
    /// How long checks are heightened after a move, in seconds.
    pub stabilise_s: u64,
    /// After which a former holder may take its role back, in seconds.
    pub reclaim_after_s: u64,
    /// PostgreSQL's programs; `None`: to be found.
    #[serde(default)]
    pub postgres: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            regions: 1,
            synchronous_standbys: 1,
            lease_ms: 2_000,
            strategy: Strategy::Automatic,
            simulated: false,
            plane: true,
            agents: true,
            stabilise_s: 5,
            reclaim_after_s: 10,
            postgres: None,
        }
    }
}

/// The unprivileged user that everything runs as when the lab is started by root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl User {
    /// `postgres` or else `nobody` when started by root; `None` otherwise.
    pub fn unprivileged() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let find = |name: &str| {
            let line = passwd.lines().find(|l| l.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some(User {
                name: name.into(),
                uid: fields.next()?.parse().ok()?,
                gid: fields.next()?.parse().ok()?,
            })
        };
        find("postgres").or_else(|| find("nobody"))
    }
}

/// Ports of one lab.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) plane: u16,
    pub(super) agent: BTreeMap<String, u16>,
    pub(super) postgres: BTreeMap<String, u16>,
    /// Of the routers' door.
    #[serde(default)]
    pub(super) http: BTreeMap<String, u16>,
    /// (from, to, what) → the port on which `from` reaches `to`.
    pub(super) links: Vec<Link>,
}

/// One directed way between two nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Who uses it.
    pub from: String,
    /// Whom it leads to.
    pub to: String,
    /// `agent`, `postgres` or `plane`.
    pub what: String,
    /// Where it listens.
    pub listen: u16,
    /// Where it leads.
    pub target: u16,
}

impl Ports {
    /// Free ports: held all at once while they are found, so that no two are the same.
    pub(super) fn find(nodes: &[String]) -> std::io::Result<Self> {
        // Below the range from which outgoing connections take theirs: while a server is down,
        // whoever tries again and again to reach it would sooner or later be given that very port
        // as its own, and connect to itself.
        let range =
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let below = range
            .split_whitespace()
            .next()
            .and_then(|p| p.parse::<u16>().ok())
            .filter(|p| *p > 12_000)
            .unwrap_or(32_768);
        let mut seed = [0; 2];
        getrandom::fill(&mut seed).map_err(|e| std::io::Error::other(e.to_string()))?;
        let mut next = u16::from_ne_bytes(seed);
        let mut held = Vec::new();
        let mut free = || -> std::io::Result<u16> {
            for _ in 10_000..below {
                next = next.wrapping_add(1);
                let port = 10_000 + next % (below - 10_000);
                if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
                    held.push(listener);
                    return Ok(port);
                }
            }
            Err(std::io::Error::other(format!("no free port between 10000 and {below}")))
        };
        let mut ports = Ports { plane: free()?, ..Ports::default() };
        for node in nodes {
            ports.agent.insert(node.clone(), free()?);
            ports.postgres.insert(node.clone(), free()?);
            ports.http.insert(node.clone(), free()?);
        }
        for from in nodes {
            for to in nodes.iter().filter(|n| *n != from) {
                for (what, targets) in [("agent", &ports.agent), ("postgres", &ports.postgres)] {
                    let target = targets.get(to).copied().unwrap_or(0);
                    ports.links.push(Link {
                        from: from.clone(),
                        to: to.clone(),
                        what: what.into(),
                        listen: free()?,
                        target,
                    });
                }
            }
            ports.links.push(Link {
                from: from.clone(),
                to: "plane".into(),
                what: "plane".into(),
                listen: free()?,
                target: ports.plane,
            });
        }
        Ok(ports)
    }

    pub(super) fn link(&self, from: &str, to: &str, what: &str) -> u16 {
        self.links
            .iter()
            .find(|l| l.from == from && l.to == to && l.what == what)
            .map_or(0, |l| l.listen)
    }
}

/// Writes every file of the lab.
pub(super) fn write(
    dir: &Path,
    options: &Options,
    nodes: &[String],
    ports: &Ports,
) -> Result<(), Box<dyn std::error::Error>> {
    let authority = Authority::new("quorate lab")?;
    let key = ApprovalKey::generate()?;
    let second = ApprovalKey::generate()?;
    let regions: Vec<String> = match options.regions {
        0 | 1 => vec!["local".into()],
        several => (1..=several.min(nodes.len())).map(|n| format!("region-{n}")).collect(),
    };
    let mut cluster = format!(
        "# made by the lab\ncluster_id: lab\nname: Lab\nenvironment: LAB\nregions: \
            [{}]\nsynchronous_standbys: {}\nlease_ms: {}\nnodes:\n",
        regions.join(", "),
        options.synchronous_standbys.min(nodes.len().saturating_sub(1)),
        options.lease_ms
    );
    for (i, node) in nodes.iter().enumerate() {
        let role = if i == 0 { "primary" } else { "secondary" };
        write!(
            cluster,
            "  - node_id: {node}\n    hostname: 127.0.0.1\n    role: {role}\n    region: {}\n    \
                site: site-{}\n    status: unknown\n    priority: 100\n    capacity: 100.0\n    \
                agent_port: {}\n    postgres_port: {}\n",
            regions[i % regions.len()],
            char::from(b'a' + u8::try_from(i % 26).unwrap_or(0)),
            ports.agent[node],
            ports.postgres[node]
        )?;
    }
    std::fs::write(dir.join("cluster.yaml"), cluster)?;
    let policy = format!(
        "policy_id: lab-policy\nname: Lab Policy\nstrategy: {}\nmax_failover_time_s: \
            60\nrequire_quorum: true\nmin_healthy_nodes: 1\nstabilise_s: {}\nreclaim_after_s: {}\n",
        options.strategy.word(),
        options.stabilise_s,
        options.reclaim_after_s
    );
    std::fs::write(dir.join("policy.yaml"), policy)?;
    let mut allowlist = String::from("identities:\n  - {name: plane, roles: [plane]}\n");
    for node in nodes {
        writeln!(allowlist, "  - {{name: {node}, roles: [node]}}")?;
    }
    writeln!(
        allowlist,
        "  - {{name: operator, roles: [operator, approver], approval_key: \"{}\"}}",
        key.public_hex()
    )?;
    // Some things take two persons.
    writeln!(
        allowlist,
        "  - {{name: second, roles: [operator, approver], approval_key: \"{}\"}}",
        second.public_hex()
    )?;
    writeln!(allowlist, "  - {{name: auditor, roles: [auditor, viewer]}}")?;
    std::fs::write(dir.join("allowlist.yaml"), allowlist)?;
    for node in nodes {
        let folder = dir.join(node);
        authority.issue(node, &folder.join("tls"))?;
        let mut routes = String::new();
        for peer in nodes.iter().filter(|n| *n != node) {
            let (agent, postgres) =
                (ports.link(node, peer, "agent"), ports.link(node, peer, "postgres"));
            writeln!(
                routes,
                "  {peer}: {{agent: \"127.0.0.1:{agent}\", postgres: \"127.0.0.1:{postgres}\"}}"
            )?;
        }
        let plane = ports.link(node, "plane", "plane");
        let programs = options.postgres.as_ref();
        let programs = programs.map_or(String::new(), |p| format!("  bin_dir: {}\n", p.display()));
        let kind = if options.simulated { SIMULATED } else { "postgres" };
        let agent = format!(
            "node_id: {node}\ncluster: ../cluster.yaml\npolicy: ../policy.yaml\nallowlist: \
                ../allowlist.yaml\nstate_dir: state\n\
             listen: 127.0.0.1:{}\nhttp: 127.0.0.1:{}\nplane: 127.0.0.1:{plane}\ntls: {{ca: tls/ca.pem, cert: \
             tls/cert.pem, key: tls/key.pem}}\n\
             resource: {kind}\npostgres:\n  data_dir: data\n  socket_dir: \
             socket\n\
             {programs}  initdb_args: [--auth=trust, --no-sync]\nroutes:\n{routes}",
            ports.agent[node], ports.http[node]
        );
        std::fs::write(folder.join("agent.yaml"), agent)?;
    }
    authority.issue("plane", &dir.join("plane/tls"))?;
    let plane = format!(
        "cluster: ../cluster.yaml\npolicy: ../policy.yaml\nallowlist: \
            ../allowlist.yaml\nstate_dir: state\nlisten: 127.0.0.1:{}\n\
         tls: {{ca: tls/ca.pem, cert: tls/cert.pem, key: tls/key.pem}}\nsimulated: {}\n",
        ports.plane, options.simulated
    );
    std::fs::write(dir.join("plane/plane.yaml"), plane)?;
    for person in ["operator", "second", "auditor"] {
        let folder = dir.join(person);
        authority.issue(person, &folder)?;
        let mut targets = format!("name: {person}\nplane: 127.0.0.1:{}\nagents:\n", ports.plane);
        for node in nodes {
            writeln!(targets, "  {node}: 127.0.0.1:{}", ports.agent[node])?;
        }
        std::fs::write(folder.join("identity.yaml"), targets)?;
    }
    write_secret(&dir.join("operator/approval.key"), &key.to_hex())?;
    write_secret(&dir.join("second/approval.key"), &second.to_hex())?;
    Ok(())
}
