//! Approvals: an Ed25519 signature over a plan's digest, checked again by whoever acts on it.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::config::Allowlist;
use crate::config::allowlist::Permission;
use crate::model::command::Order;
use crate::model::plan::{Approval, Plan};
use crate::model::topology::Strategy;
use crate::model::{Digest, WallTime};

/// A person's key for approvals.
#[derive(Debug)]
pub struct ApprovalKey(SigningKey);

impl ApprovalKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, String> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| e.to_string())?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }
    /// From 64 hex digits.
    ///
    /// # Errors
    /// When they are not.
    pub fn from_hex(text: &str) -> Result<Self, String> {
        let bytes = hex::decode(text.trim()).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
        Ok(Self(SigningKey::from_bytes(&bytes.ok_or("an approval key has 64 hex digits")?)))
    }
    /// The secret, for the key file.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0.to_bytes())
    }
    /// What goes into the allowlist.
    pub fn public_hex(&self) -> String {
        hex::encode(self.0.verifying_key().to_bytes())
    }

    /// Signs.
    ///
    /// # Errors
    /// When the system has no randomness for the nonce.
    pub fn approve(
        &self,
        plan: Digest,
        by: &str,
        reason: &str,
        expires: WallTime,
    ) -> Result<Approval, String> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|e| e.to_string())?;
        Ok(self.approve_with(plan, by, reason, expires, nonce))
    }

    /// Signs with a nonce that the caller knows to be new.
    pub fn approve_with(
        &self,
        plan: Digest,
        by: &str,
        reason: &str,
        expires: WallTime,
        nonce: [u8; 16],
    ) -> Approval {
        let mut approval = Approval {
            plan,
            by: by.to_owned(),
            reason: reason.to_owned(),
            nonce: hex::encode(nonce),
            expires,
            signature: String::new(),
        };
        approval.signature = hex::encode(self.0.sign(&signed_bytes(&approval)).to_bytes());
        approval
    }
}

/// The canonical bytes under a signature: every field but the signature itself.
fn signed_bytes(approval: &Approval) -> Vec<u8> {
    let fields =
        (&approval.plan, &approval.by, &approval.reason, &approval.nonce, approval.expires);
    // Strings and one number serialise without failing.
    serde_json::to_vec(&fields).unwrap_or_default()
}

/// Whether one approval is good for this digest now.
///
/// # Errors
/// In words, for the person who reads the refusal.
pub fn check_approval(
    approval: &Approval,
    plan: &Digest,
    allowlist: &Allowlist,
    now: WallTime,
) -> Result<(), String> {
    let by = &approval.by;
    if approval.plan != *plan {
        return Err(format!(
            "{by} approved plan {}, this is {}",
            approval.plan.short(),
            plan.short()
        ));
    }
    if approval.expires < now {
        return Err(format!("{by}'s approval expired at {}", approval.expires.rfc3339()));
    }
    if !allowlist.allows(by, &[Permission::Approver]) {
        return Err(format!("{by} is not an approver in the allowlist"));
    }
    let key = allowlist
        .approval_key(by)
        .ok_or_else(|| format!("no approval key of {by} is in the allowlist"))?;
    let key = VerifyingKey::from_bytes(&key)
        .map_err(|_| format!("the approval key of {by} is not usable"))?;
    let signature =
        hex::decode(&approval.signature).ok().and_then(|b| Signature::from_slice(&b).ok());
    let signature =
        signature.ok_or_else(|| format!("{by}'s signature is not of the right form"))?;
    key.verify_strict(&signed_bytes(approval), &signature)
        .map_err(|_| format!("{by}'s signature does not match"))
}

/// Whether a plan carries what this node's policy (its strategy, and the loss that it allows, in
/// bytes) asks for: under a manual strategy a person's signature, always one where a person asked
/// for it, and where it would accept more than that.
///
/// # Errors
/// In words, for the person who reads the refusal.
pub fn check_authority(
    plan: &Plan,
    digest: &Digest,
    approvals: &[Approval],
    (strategy, max_loss_bytes): (Strategy, u64),
    allowlist: &Allowlist,
    now: WallTime,
) -> Result<(), String> {
    let by_policy = plan.is_by_policy();
    if by_policy && strategy != Strategy::Manual && !plan.accept_unknown_loss {
        // A plane has a policy of its own; this node's word stands, or a person's.
        if plan.max_loss_bytes <= max_loss_bytes {
            return Ok(());
        }
        if approvals.is_empty() {
            return Err(format!(
                "the plan would accept a loss of {} bytes, and the policy of this node {} \
                 (max_loss_bytes): give both the same, or have a person approve the plan",
                plan.max_loss_bytes, max_loss_bytes
            ));
        }
    }
    let Some(first) = approvals.first() else {
        return Err("the plan needs a person's approval and has none".into());
    };
    check_approval(first, digest, allowlist, now)
}

/// Whether an order carries the authority it needs.
///
/// # Errors
/// As [`check_authority`].
pub fn check_order(
    order: &Order,
    policy: (Strategy, u64),
    allowlist: &Allowlist,
    now: WallTime,
) -> Result<(), String> {
    match order {
        Order::Arm { plan, approvals }
        | Order::Demote { plan, approvals }
        | Order::Shift { plan, approvals } => {
            check_authority(plan, &plan.digest(), approvals, policy, allowlist, now)
        }
        Order::Voters { order, approvals } => {
            check_signed(&order.digest(), approvals, 1, allowlist, now)
        }
        Order::Override { order, approvals } => {
            check_signed(&order.digest(), approvals, 2, allowlist, now)
        }
        Order::History { order, approvals } => {
            check_signed(&order.digest(), approvals, 2, allowlist, now)
        }
        Order::Disarm { .. } | Order::Prove | Order::Restart => Ok(()),
    }
}

/// Whether so many different persons signed this digest.
///
/// # Errors
/// In words, for the person who reads the refusal.
pub fn check_signed(
    digest: &Digest,
    approvals: &[Approval],
    persons: usize,
    allowlist: &Allowlist,
    now: WallTime,
) -> Result<(), String> {
    let mut by = std::collections::BTreeSet::new();
    for approval in approvals {
        check_approval(approval, digest, allowlist, now)?;
        by.insert(approval.by.as_str());
    }
    if by.len() < persons {
        return Err(format!("{persons} persons have to sign this, {} did", by.len()));
    }
    Ok(())
}

/// What a voter checks of a claim: every approval it carries, and that there is one where the
/// policy is manual. A holder's own reclaim or climb has no plan.
///
/// # Errors
/// In words, for the person who reads the refusal.
pub fn check_claim(
    plan: Option<&Digest>,
    approvals: &[Approval],
    strategy: Strategy,
    allowlist: &Allowlist,
    now: WallTime,
) -> Result<(), String> {
    match plan {
        Some(_) if approvals.is_empty() && strategy == Strategy::Manual => {
            Err("the policy is manual and the claim carries no approval".into())
        }
        Some(plan) => approvals.iter().try_for_each(|a| check_approval(a, plan, allowlist, now)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plan::PlanKind;
    use crate::model::{Epoch, Member};

    fn allowlist(key: &ApprovalKey) -> Allowlist {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allowlist.yaml");
        let text = format!(
            "identities:\n  - {{name: alice, roles: [approver], approval_key: \"{}\"}}\n  - \
                {{name: bob, roles: [viewer]}}\n",
            key.public_hex()
        );
        std::fs::write(&path, text).unwrap();
        Allowlist::read(&path).unwrap()
    }

    /// A plane that was taken over could ask for a plan that loses what the nodes' own policy keeps.
    #[test]
    fn a_plan_by_policy_accepts_no_more_loss_than_the_nodes_own_policy() {
        let list = allowlist(&ApprovalKey::generate().unwrap());
        for (limit, strategy, good) in [
            (0, Strategy::Automatic, true),
            (100, Strategy::Automatic, true),
            (101, Strategy::Automatic, false),
            (u64::MAX, Strategy::Automatic, false),
            (0, Strategy::Manual, false),
        ] {
            let plan = Plan {
                kind: PlanKind::Failover,
                from: None,
                requested_by: "policy any".into(),
                max_loss_bytes: limit,
                ..Plan::sample(Epoch(1), Member::new("a", "1"), Member::new("b", "2"))
            };
            let order = Order::Arm { plan: Box::new(plan), approvals: vec![] };
            let said = check_order(&order, (strategy, 100), &list, WallTime(1));
            assert_eq!(said.is_ok(), good, "{limit} {strategy:?}: {said:?}");
        }
    }

    #[test]
    fn an_approval_is_bound_to_its_plan_person_and_time() {
        let key = ApprovalKey::generate().unwrap();
        let list = allowlist(&key);
        let plan = Digest::new("aa");
        let good = key.approve(plan.clone(), "alice", "drill", WallTime(1_000)).unwrap();
        let check = |a: &Approval, p: &Digest, now| check_approval(a, p, &list, WallTime(now));
        assert_eq!(check(&good, &plan, 999), Ok(()));
        assert!(check(&good, &Digest::new("bb"), 999).unwrap_err().contains("approved plan"));
        assert!(check(&good, &plan, 1_001).unwrap_err().contains("expired"));
        let other = Approval { reason: "changed".into(), ..good.clone() };
        assert!(check(&other, &plan, 999).unwrap_err().contains("does not match"));
        let forged = ApprovalKey::generate()
            .unwrap()
            .approve(plan.clone(), "alice", "drill", WallTime(1_000))
            .unwrap();
        assert!(check(&forged, &plan, 999).unwrap_err().contains("does not match"));
        let nobody = key.approve(plan.clone(), "bob", "drill", WallTime(1_000)).unwrap();
        assert!(check(&nobody, &plan, 999).unwrap_err().contains("not an approver"));
    }
}
