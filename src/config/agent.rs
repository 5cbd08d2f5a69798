//! `agent.yaml`: one agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Allowlist, Problem, TlsFiles, beside};
use crate::model::topology::{Cluster, Node, Policy, Role};
use crate::model::{NodeId, Span};

/// What the agent drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A PostgreSQL instance.
    Postgres,
    /// A simulated database, for trying things where no PostgreSQL is.
    Sim,
    /// Nothing: a witness.
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    node_id: Spanned<String>,
    cluster: PathBuf,
    policy: PathBuf,
    allowlist: PathBuf,
    state_dir: PathBuf,
    listen: String,
    #[serde(default)]
    http: Option<String>,
    #[serde(default)]
    plane: Option<String>,
    tls: TlsFiles,
    resource: Spanned<ResourceKind>,
    #[serde(default)]
    postgres: Option<PostgresEntry>,
    #[serde(default)]
    routes: BTreeMap<String, Route>,
    heartbeat_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostgresEntry {
    #[serde(default)]
    bin_dir: Option<PathBuf>,
    data_dir: PathBuf,
    #[serde(default)]
    config_file: Option<PathBuf>,
    #[serde(default)]
    log_file: Option<PathBuf>,
    socket_dir: PathBuf,
    #[serde(default = "postgres")]
    user: String,
    #[serde(default = "postgres")]
    database: String,
    #[serde(default)]
    replication_passfile: Option<PathBuf>,
    #[serde(default)]
    replication_options: Option<String>,
    #[serde(default = "initdb_args")]
    initdb_args: Vec<String>,
}

/// Another way to a peer than the one in `cluster.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `host:port` of its agent.
    pub agent: String,
    /// `host:port` of its database.
    pub postgres: String,
}

/// A PostgreSQL instance.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// Where `postgres`, `pg_rewind` and the others are; `None`: to be found.
    pub bin_dir: Option<PathBuf>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// `postgresql.conf`, where it is not in the data directory (Debian's layout).
    pub config_file: Option<PathBuf>,
    /// What the server writes to standard error; `None`: beside the data directory.
    pub log_file: Option<PathBuf>,
    /// Where its Unix socket is.
    pub socket_dir: PathBuf,
    /// Its TCP port.
    pub port: u16,
    /// The superuser the agent connects as, by the Unix socket.
    pub user: String,
    /// The database it connects to.
    pub database: String,
    /// A libpq password file for replication connections.
    pub replication_passfile: Option<PathBuf>,
    /// More of libpq's parameters for every connection to a peer's database, such as
    /// `sslmode=verify-full sslrootcert=/etc/ssl/ca.pem`.
    pub replication_options: Option<String>,
    /// Arguments for `initdb`, where a new database is made.
    pub initdb_args: Vec<String>,
}

/// One agent's configuration.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Which node it is.
    pub node: Node,
    /// Its cluster.
    pub cluster: Cluster,
    /// Its policy.
    pub policy: Policy,
    /// Who may connect, and approve.
    pub allowlist: Allowlist,
    /// Where what must survive is kept.
    pub state_dir: PathBuf,
    /// `host:port` to listen on.
    pub listen: String,
    /// `host:port` of the routers' door; `None`: there is none.
    pub http: Option<String>,
    /// `host:port` of the plane.
    pub plane: Option<String>,
    /// Its certificate.
    pub tls: TlsFiles,
    /// What it drives.
    pub resource: ResourceKind,
    /// For PostgreSQL and the simulated database.
    pub postgres: Option<PostgresConfig>,
    /// Ways to the peers.
    pub routes: BTreeMap<NodeId, Route>,
    /// Time between two reports.
    pub heartbeat: Span,
}

impl PostgresConfig {
    /// Whether it is the folder of the socket, however it is spelled: `/var/run` leads to `/run`.
    pub fn is_socket_dir(&self, folder: &str) -> bool {
        let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        whole(Path::new(folder)) == whole(&self.socket_dir)
    }
}

fn postgres() -> String {
    "postgres".into()
}
fn initdb_args() -> Vec<String> {
    vec!["--auth-local=peer".into(), "--auth-host=scram-sha-256".into()]
}
/// Five in a lease, two in a second at least: a person reads them as well.
fn heartbeat(lease: Span) -> Span {
    Span((lease.0 / 5).clamp(Span::millis(100).0, Span::millis(500).0))
}

impl AgentConfig {
    /// Reads `agent.yaml` and the files it names.
    ///
    /// # Errors
    /// A [`Problem`] with file, line, column and the nearest valid word.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let file: File = super::read(path)?;
        let cluster = super::cluster::read(&beside(path, &file.cluster))?;
        let policy = super::policy::read(&beside(path, &file.policy), &cluster)?;
        let allowlist = Allowlist::read(&beside(path, &file.allowlist))?;
        let Some(node) = cluster.node(&NodeId::new(&file.node_id.value)).cloned() else {
            let known: Vec<_> = cluster.nodes.iter().map(|n| n.node_id.as_str()).collect();
            let what = format!(
                "node_id {:?} is not in cluster {}: it has {}",
                file.node_id.value,
                cluster.cluster_id,
                known.join(", ")
            );
            return Err(Problem::at(path, &file.node_id, what).nearest(&file.node_id.value, known));
        };
        super::cluster::driven(path, &cluster)?;
        let witness = node.role == Role::Witness;
        if witness != (file.resource.value == ResourceKind::None) {
            let what = format!(
                "resource does not fit: {} is a {} in cluster.yaml",
                node.node_id,
                node.role.word()
            );
            return Err(Problem::at(path, &file.resource, what));
        }
        if !witness && file.postgres.is_none() {
            return Err(Problem::at(
                path,
                &file.resource,
                "expected a postgres: section with data_dir and socket_dir",
            ));
        }
        let mut routes = BTreeMap::new();
        for peer in cluster.nodes.iter().filter(|n| n.node_id != node.node_id) {
            let declared = Route {
                agent: peer.agent_address.clone(),
                postgres: format!("{}:{}", peer.hostname, peer.postgres_port),
            };
            let route = file.routes.get(peer.node_id.as_str()).cloned().unwrap_or(declared);
            routes.insert(peer.node_id.clone(), route);
        }
        let postgres = file.postgres.map(|p| PostgresConfig {
            bin_dir: p.bin_dir,
            data_dir: beside(path, &p.data_dir),
            config_file: p.config_file.map(|f| beside(path, &f)),
            log_file: p.log_file.map(|f| beside(path, &f)),
            socket_dir: beside(path, &p.socket_dir),
            port: node.postgres_port,
            user: p.user,
            database: p.database,
            replication_passfile: p.replication_passfile.map(|f| beside(path, &f)),
            replication_options: p.replication_options,
            initdb_args: p.initdb_args,
        });
        Ok(Self {
            node,
            policy,
            allowlist,
            state_dir: beside(path, &file.state_dir),
            listen: file.listen,
            http: file.http,
            plane: file.plane,
            tls: file.tls.beside(path),
            resource: file.resource.value,
            postgres,
            routes,
            heartbeat: file
                .heartbeat_ms
                .map_or(heartbeat(cluster.lease), |ms| Span::millis(ms.clamp(10, 60_000))),
            cluster,
        })
    }
}
