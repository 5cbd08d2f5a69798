//! Commands that work from files alone: the engine of a simulated cluster at rest answers.

use std::path::PathBuf;

use clap::Args;
use color_eyre::Result;
use serde::{Deserialize, Serialize};

use super::simulate;
use crate::agent::host;
use crate::config;
use crate::model::topology::{Cluster, Policy};
use crate::model::{Span, WallTime};
use crate::sim::{Conditions, Stand};

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(super) struct Files {
    /// Works from this cluster.yaml alone, on a simulated cluster at rest; no plane is asked.
    #[arg(long)]
    cluster: Option<PathBuf>,
    /// And this policy.yaml.
    #[arg(long, requires = "cluster")]
    policy: Option<PathBuf>,
}

/// Long enough that what has to be well for a while is.
const REST: Span = Span::secs(310);

impl Files {
    pub(super) fn is_given(&self) -> bool {
        self.cluster.is_some()
    }

    fn read(&self) -> Result<Option<(Cluster, Policy)>> {
        let Some(cluster) = &self.cluster else { return Ok(None) };
        let cluster = config::cluster::read(cluster)?;
        let policy = match &self.policy {
            Some(policy) => config::policy::read(policy, &cluster)?,
            None => simulate::plain_policy(&cluster)?,
        };
        Ok(Some((cluster, policy)))
    }

    /// The simulated cluster, if files were named. Its people's clock is the real one: dated rules
    /// are judged by it.
    pub(super) fn stand(&self) -> Result<Option<Stand>> {
        let Some((cluster, policy)) = self.read()? else { return Ok(None) };
        let rested = i64::try_from(REST.as_millis()).unwrap_or(0);
        let begins = WallTime(host::wall().0 - rested);
        let conditions =
            Conditions { write_interval: Span::secs(1), begins, ..Conditions::default() };
        Ok(Some(Stand::new(&cluster, &policy, &conditions, 1, false).rested(REST)))
    }
}
