//! Commands that work from files alone: the engine of a simulated cluster at rest answers.

use std::path::PathBuf;

use clap::Args;
use color_eyre::Result;

use super::{Outcome, simulate};
use crate::config;
use crate::model::topology::{Cluster, Policy};
use crate::sim::{Conditions, Stand};

#[derive(Clone, Debug, Args)]
pub(super) struct Files {
    /// Works from this cluster.yaml alone, on a simulated cluster at rest; no plane is asked.
    #[arg(long)]
    cluster: Option<PathBuf>,
    /// And this policy.yaml.
    #[arg(long, requires = "cluster")]
    policy: Option<PathBuf>,
}

/// Long enough that what has to be well for a while is.
const REST: crate::model::Span = crate::model::Span::secs(310);

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

    /// The simulated cluster, if files were named.
    pub(super) fn stand(&self) -> Result<Option<Stand>> {
        let Some((cluster, policy)) = self.read()? else { return Ok(None) };
        Ok(Some(
            Stand::new(&cluster, &policy, &Conditions { write_interval: crate::model::Span::secs(1), ..Conditions::default() }, 1, false)
                .rested(REST),
        ))
    }

    /// Plays a named scenario on the files' cluster.
    pub(super) fn play(&self, scenario: &str) -> Result<Outcome> {
        match self.read()? {
            Some((cluster, policy)) => simulate::play_named(scenario, &cluster, &policy),
            None => Ok(Outcome::Usage),
        }
    }
}
