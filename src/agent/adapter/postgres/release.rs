//! A server is given back to its owner: what quorate wrote into its files goes, or stays as a value
//! of the owner's.

use std::path::Path;

use super::archive::Archive;
use super::session::Session;
use super::{files, standby};
use crate::config::AgentConfig;
use crate::config::agent::PostgresConfig;
use crate::model::NodeId;

/// In the state folder of a node whose server was given back; no agent starts over it.
pub const RELEASED: &str = "released";

/// Gives back the files of a server that runs and that nobody drives any more; a standby goes on
/// receiving from `upstream`. What was done, in words.
///
/// # Errors
/// In words, and what is left to do by hand.
pub async fn give_back(
    config: &AgentConfig,
    postgres: &PostgresConfig,
    upstream: Option<&NodeId>,
) -> Result<Vec<String>, String> {
    let mut done = vec![];
    let files_say = |e: std::io::Error| format!("{}: {e}", postgres.data_dir.display());
    files::uncover_user_values(&postgres.data_dir).map_err(files_say)?;
    done.push("restore_command is the one of your files again".to_owned());
    let session = Session::connect(postgres).await.map_err(|e| {
        format!("its server does not answer ({e}): ALTER SYSTEM and reload are left to you")
    })?;
    let set = |name: &'static str, value: String| {
        let session = &session;
        async move {
            let statement = format!("ALTER SYSTEM SET {name} = '{}'", value.replace('\'', "''"));
            session.execute(&statement).await.map_err(|e| format!("{statement}: {e}"))
        }
    };
    if let Some(own) = restore_of_owner(&config.state_dir) {
        set("restore_command", own).await?;
    }
    if let Some(upstream) = upstream {
        let me = config.node.node_id.as_str();
        let way = standby::conninfo(postgres, &config.routes, upstream, me);
        let way = way.ok_or_else(|| format!("no way to {upstream} is configured"))?;
        set("primary_conninfo", way).await?;
        done.push(format!("primary_conninfo leads to {upstream}"));
    }
    // An empty one stood over the owner's.
    let reset = session.execute("ALTER SYSTEM RESET primary_slot_name").await;
    reset.map_err(|e| format!("primary_slot_name: {e}"))?;
    session.execute("SELECT pg_reload_conf()").await.map_err(|e| format!("reload: {e}"))?;
    let sync = "SELECT setting FROM pg_settings WHERE name = 'synchronous_standby_names'";
    if let Ok(row) = session.query_one(sync, &[]).await {
        let names: String = row.get(0);
        if !names.is_empty() {
            done.push(format!(
                "synchronous_standby_names stays {names:?}: nobody changes it any more when a \
                 standby is gone"
            ));
        }
    }
    done.push(
        "the values on its command line (quorate doctor: fixed) stay until its next restart, and \
         restart_after_crash = off among them: a backend that crashes ends the server, and nobody \
         starts it any more. Restart it soon"
            .into(),
    );
    Ok(done)
}

/// What the owner had set with ALTER SYSTEM.
fn restore_of_owner(state_dir: &Path) -> Option<String> {
    Archive::load(state_dir).system
}
