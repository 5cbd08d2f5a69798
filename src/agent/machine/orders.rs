//! Orders from the plane, each refused when the world it was made for is gone.

use super::{Attempt, Effect, Goal, Machine, Manner, Reason, Tenure, Turn};
use crate::agent::machine::tenure::PLANNED_STOP_MAX;
use crate::model::command::Order;
use crate::model::observation::ArmedStage;
use crate::model::plan::{Plan, PlanKind};
use crate::model::{Digest, Epoch, Timestamp};

impl Machine {
    /// An order. `authority` says whether its plan carries what the policy asks for, checked by the
    /// caller against keys.
    pub fn order(
        &mut self,
        now: Timestamp,
        order: Order,
        authority: Result<(), String>,
    ) -> (Turn, Result<(), String>) {
        let mut outcome = Ok(());
        let turn = self.turn(now, |machine, turn| {
            outcome = machine.obey(now, order, authority, turn);
            if let Err(why) = &outcome {
                turn.effects.push(Effect::Note(format!("refused an order: {why}")));
            }
        });
        (turn, outcome)
    }

    fn obey(
        &mut self,
        now: Timestamp,
        order: Order,
        authority: Result<(), String>,
        turn: &mut Turn,
    ) -> Result<(), String> {
        match order {
            Order::Arm { plan, approvals } => {
                authority?;
                let digest = plan.digest();
                if self.knows(&digest) {
                    return Ok(());
                }
                self.fits(&plan)?;
                if plan.to != self.setup.me {
                    return Err(format!(
                        "the plan's candidate is {:?}, this is {:?}",
                        plan.to, self.setup.me
                    ));
                }
                if !matches!(self.tenure, Tenure::None) {
                    return Err("this node holds the role".into());
                }
                if let Some(attempt) = &self.attempt
                    && !attempt.is_waiting()
                {
                    return Err(format!("busy: {}", attempt.words()));
                }
                if !self.resource.has_data {
                    return Err("there is no database here".into());
                }
                if let Some(fault) = self.data_fault() {
                    return Err(fault.to_string());
                }
                turn.effects.push(Effect::Note(format!("armed with plan {}", digest.short())));
                if matches!(self.goal, Goal::Stopped(_)) || plan.kind == PlanKind::Resume {
                    self.cut(turn);
                }
                self.attempt =
                    Some(Attempt::new(now, Reason::Armed { plan, digest, approvals }, Epoch(0)));
                turn.effects.push(Effect::Report);
                Ok(())
            }
            Order::Demote { plan, .. } => {
                authority?;
                let done = self
                    .record()
                    .released
                    .iter()
                    .any(|r| r.epoch == plan.epoch && r.holder == self.setup.me);
                if done {
                    return Ok(());
                }
                self.fits(&plan)?;
                let digest = plan.digest();
                let Tenure::Holding { stopping, promoted, .. } = &mut self.tenure else {
                    return Err("this node does not hold the role".into());
                };
                if stopping.is_some() {
                    return Ok(());
                }
                if plan.from.as_ref() != Some(&self.setup.me) || promoted.is_none() {
                    return Err("the plan demotes another node".into());
                }
                *stopping = Some((digest, now + PLANNED_STOP_MAX));
                let record = self.voter.begin_hand_over(plan.epoch);
                Self::persist(turn, Some(record));
                self.attempt = None;
                self.set_goal(Goal::Stopped(Manner::Graceful), turn);
                turn.effects.push(Effect::Report);
                Ok(())
            }
            Order::Disarm { plan } => {
                let waits = self
                    .attempt
                    .as_ref()
                    .is_some_and(|a| a.is_waiting() && a.plan().is_some_and(|(_, d)| *d == plan));
                if waits {
                    self.abandon("disarmed by the plane", turn);
                }
                Ok(())
            }
            Order::Voters { order, .. } => {
                authority?;
                self.wish(now, order)
            }
            Order::Override { order, .. } => {
                authority?;
                self.remove_attested(now, &order, turn)
            }
            Order::History { order, .. } => {
                authority?;
                self.take_history(now, &order, turn)
            }
            Order::Shift { plan, .. } => {
                authority?;
                self.take_shares(&plan, turn)
            }
            Order::Restart => {
                if !matches!(self.tenure, Tenure::None) {
                    return Err("this node holds the role: move it first".into());
                }
                if self.attempt.is_some() {
                    return Err("busy: it is about to take the role".into());
                }
                if !matches!(self.goal, Goal::Standby { upstream: Some(_), .. }) {
                    return Err("it is not a standby that follows somebody".into());
                }
                turn.effects.push(Effect::Restart);
                Ok(())
            }
            Order::Prove => {
                if self.tenure.held(now).is_none() && self.serves().is_none() {
                    return Err("this node does not accept writes".into());
                }
                turn.effects.push(Effect::Prove);
                Ok(())
            }
        }
    }

    /// The promotion of an armed plan is done: said once the role is held and the log has its
    /// history.
    pub fn note_done(&mut self) {
        if let (Some(armed), Tenure::Holding { promoted: Some(_), .. }) =
            (&mut self.last_armed, &self.tenure)
            && armed.stage == ArmedStage::Promoting
        {
            armed.stage = ArmedStage::Done;
        }
    }

    fn knows(&self, digest: &Digest) -> bool {
        let armed = self.attempt.as_ref().and_then(Attempt::plan).is_some_and(|(_, d)| d == digest);
        armed
            || self
                .last_armed
                .as_ref()
                .is_some_and(|a| a.plan == *digest && a.stage != ArmedStage::Abandoned)
    }

    /// The plan was made for this world: this cluster, this epoch, this holder.
    fn fits(&self, plan: &Plan) -> Result<(), String> {
        let record = self.voter.record();
        if plan.cluster != self.setup.cluster {
            return Err(format!("the plan is for cluster {}", plan.cluster));
        }
        // A claim that nobody won does not make a plan void; a newer winner does.
        let (epoch, holder) = match record.last_won() {
            Some(won) => (won.epoch, Some(&won.holder)),
            None => (record.epoch, record.holder.as_ref()),
        };
        if epoch != plan.epoch {
            return Err(format!(
                "the world moved: the plan was made in epoch {}, here epoch {epoch} is known to \
                    be won",
                plan.epoch
            ));
        }
        if holder != plan.from.as_ref() {
            return Err(format!(
                "the world moved: the plan demotes {:?}, here {holder:?} is known as holder",
                plan.from
            ));
        }
        Ok(())
    }
}
