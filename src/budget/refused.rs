//! Refused account: a refused token (401), and requests that the account may not make (402, 403, 451).
//!
//! Each has a gate with one slow probe at a time. A 403 of one app is a failure of that app; a 403 of five different
//! apps in a row, or of the list, is a refusal of the account.

use std::collections::BTreeSet;
use std::time::Duration;

use super::gate::Gate;
use super::lanes::Lane;
use super::{Call, LimiterEvent};
use crate::reconcile::app::AppId;
use crate::reconcile::backoff::ACCOUNT_PROBES;
use crate::reconcile::moment::Moment;

/// Number of different forbidden apps in a row that make the account forbidden. One app is never enough.
const FORBIDDEN_APPS: usize = 5;
/// Time within which another refusal of the token continues the earlier backoff. Otherwise, a server that accepts only
/// probes would be probed too often.
const RELAPSE: Duration = Duration::from_mins(10);
/// Checks, each within [`RELAPSE`] of the last, that must accept a refused token before a 401 counts as forbidden.
const CHECKS: u32 = 2;

/// Kind of request that the account may not make. The widest kind is the smallest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forbidden {
    /// The list, and with it all requests.
    List,
    /// Reads of single apps, and calls.
    Reads,
    /// Stops, starts and restarts.
    Calls,
}

impl Forbidden {
    const fn of(call: &Call) -> Option<Self> {
        match call {
            Call::Token | Call::List => Some(Self::List),
            Call::TeamList => None,
            Call::Read(_) => Some(Self::Reads),
            Call::Act(_) => Some(Self::Calls),
        }
    }

    /// Returns whether a success of `call` proves that requests of this kind are allowed.
    pub(super) fn disproved_by(self, call: &Call) -> bool {
        *call != Call::Token && Self::of(call).is_some_and(|kind| kind >= self)
    }

    pub(super) const fn holds(self, lane: Lane) -> bool {
        match (self, lane) {
            (Self::List, _) | (Self::Reads | Self::Calls, Lane::Act) | (Self::Reads, Lane::Confirm) => true,
            (Self::Reads | Self::Calls, Lane::Observe) | (Self::Calls, Lane::Confirm) => false,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Account {
    /// Present while the token is refused.
    pub(super) blocked: Option<Gate>,
    /// The last acceptance of a refused token, and its gate until then.
    unblocked: Option<(Moment, Gate)>,
    /// Number of successive checks that accepted the token, each within [`RELAPSE`] of the last.
    checks: u32,
    pub(super) forbidden: Option<(Forbidden, Gate)>,
    /// Apps in a row that may not be read or called.
    pub(super) forbidden_apps: BTreeSet<AppId>,
    /// Number of declared apps: if there are few, refusals of all of them are a refusal of the account.
    pub(super) declared: usize,
    salt: u64,
}

impl Account {
    pub(super) fn new(salt: u64) -> Self {
        Self {
            blocked: None,
            unblocked: None,
            checks: 0,
            forbidden: None,
            forbidden_apps: BTreeSet::new(),
            declared: usize::MAX,
            salt,
        }
    }

    pub(super) fn block(&mut self, now: Moment) -> Option<LimiterEvent> {
        if let Some((_, gate)) = &mut self.forbidden
            && gate.probing
        {
            gate.probe_later(now);
        }
        if let Some(gate) = &mut self.blocked {
            gate.refused(now);
            return None;
        }
        let relapse = self.unblocked.filter(|(at, _)| now.since(*at) < RELAPSE).map(|(_, gate)| gate);
        self.blocked = Some(match relapse {
            Some(mut gate) => {
                gate.probing = true;
                gate.refused(now);
                gate
            }
            None => Gate::new(ACCOUNT_PROBES, self.salt, now, now),
        });
        Some(LimiterEvent::AccountBlocked)
    }

    /// Takes an answer that accepts the token.
    pub(super) fn unblock(&mut self, call: &Call, now: Moment) -> Option<LimiterEvent> {
        let gate = self.blocked.take()?;
        if self.unblocked.is_none_or(|(at, _)| now.since(at) >= RELAPSE) {
            self.checks = 0;
        }
        self.checks += u32::from(*call == Call::Token);
        self.unblocked = Some((now, gate));
        Some(LimiterEvent::AccountUnblocked)
    }

    /// Returns whether checks have proven a token that is refused now. It stays proven while it is refused at least
    /// each [`RELAPSE`].
    pub(super) fn is_proven(&mut self, now: Moment) -> bool {
        let recent = self.unblocked.as_mut().filter(|(at, _)| now.since(*at) < RELAPSE);
        let proven = self.blocked.is_none() && self.checks >= CHECKS;
        recent.filter(|_| proven).map(|(at, _)| *at = now).is_some()
    }

    pub(super) fn forbid(&mut self, call: &Call, now: Moment) -> Option<LimiterEvent> {
        let kind = Forbidden::of(call)?;
        self.forbidden_apps.extend(call.app().cloned());
        if let Some((known, gate)) = &mut self.forbidden {
            // The wider refusal counts: an account that may not list its apps may not read or call them.
            *known = kind.min(*known);
            gate.refused(now);
            return None;
        }
        // A refusal of one app is a failure of that app, even if no other app is declared.
        let enough = FORBIDDEN_APPS.min(self.declared.max(2));
        if kind != Forbidden::List && self.forbidden_apps.len() < enough {
            return None;
        }
        self.forbidden = Some((kind, Gate::new(ACCOUNT_PROBES, self.salt, now, now)));
        Some(LimiterEvent::AccountForbidden(kind))
    }

    /// Takes the success of a request.
    pub(super) fn allow(&mut self, call: &Call) -> Option<LimiterEvent> {
        let allowed = self.forbidden.take_if(|(kind, _)| kind.disproved_by(call)).map(|_| LimiterEvent::AccountAllowed);
        self.end_row();
        allowed
    }

    /// Takes an answer that is no refusal: forbidden apps are no longer in a row.
    pub(super) fn end_row(&mut self) {
        if self.forbidden.is_none() {
            self.forbidden_apps.clear();
        }
    }

    /// Takes a probe of a forbidden account without a success or a refusal.
    pub(super) fn forbidden_probe_failed(&mut self, call: &Call, now: Moment) {
        if let Some((kind, gate)) = &mut self.forbidden
            && gate.probing
            && kind.disproved_by(call)
        {
            gate.probe_later(now);
        }
    }
}
