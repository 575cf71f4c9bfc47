//! Which command starts next, and what a cancel means: decisions only, no process and no disk.

use jiff::Timestamp;
use outrider_protocol::action::Order;
use outrider_protocol::control::Command;
use outrider_protocol::ids::CommandId;

/// The commands that have not ended, in their order of arrival.
#[derive(Debug)]
pub(crate) struct Commands {
    open: Vec<Open>,
    at_once: usize,
    draining: bool,
    /// All but this one wait, if so.
    waits_for: Option<String>,
}

#[derive(Debug)]
struct Open {
    id: CommandId,
    export: bool,
    upgrade: bool,
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    stage: Stage,
}

/// Where a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits for its turn.
    Queued,
    /// Its process is being started.
    Starting,
    /// Its process has the order.
    Running,
    /// Its process was asked to end.
    Stopping,
}

impl Stage {
    /// The stage in one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
        }
    }
}

/// What is to be done with a command that waited.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Start it.
    Start(CommandId),
    /// It is too late to start it.
    Expire(CommandId),
}

/// What a cancel comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// It had not begun: it ends now.
    End,
    /// Ask its process to end.
    Stop,
    /// Its process was asked already, or the command is not open.
    Nothing,
}

impl Commands {
    /// No commands yet; at most `at_once` will run at a time.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { open: Vec::new(), at_once, draining: false, waits_for: None }
    }

    /// Takes a command, which then waits for its turn. One that has `begun`, in an earlier life of the service, is never
    /// too old.
    pub(crate) fn add(&mut self, command: &Command, begun: bool) {
        self.open.push(Open {
            id: command.id.clone(),
            export: matches!(command.order, Order::Export(_)),
            upgrade: matches!(command.order, Order::Upgrade(_)),
            not_before: match &command.order {
                Order::Upgrade(order) => order.start_at,
                _ => None,
            },
            expires_at: command.expires_at.filter(|_| !begun),
            stage: Stage::Queued,
        });
    }

    /// What is to be done now. Each command that is named is no longer queued.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        if self.draining {
            return due;
        }
        let mut active = self.open.iter().filter(|it| it.stage != Stage::Queued).count();
        let mut exporting = self.open.iter().any(|it| it.export && it.stage != Stage::Queued);
        let mut upgrading = self.open.iter().any(|it| it.upgrade && it.stage != Stage::Queued);
        self.open.retain_mut(|it| {
            let fits = active < self.at_once && !(it.export && exporting) && !(it.upgrade && upgrading);
            let late = it.stage == Stage::Queued && is_late(it.expires_at, now);
            if self.waits_for.as_ref().is_some_and(|but| it.id.as_str() != but) {
                return true;
            }
            // One that waits for its window is told at once that this has passed.
            if late && (fits || it.not_before.is_some()) {
                due.push(Due::Expire(it.id.clone()));
                return false;
            }
            if it.stage != Stage::Queued || !fits || it.not_before.is_some_and(|at| at > now) {
                return true;
            }
            active += 1;
            exporting |= it.export;
            upgrading |= it.upgrade;
            it.stage = Stage::Starting;
            due.push(Due::Start(it.id.clone()));
            true
        });
        due
    }

    /// When one that waits for its window is to be looked at again.
    pub(crate) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.open.iter().filter(|it| it.stage == Stage::Queued && it.not_before.is_some());
        waiting.flat_map(|it| [it.not_before, it.expires_at]).flatten().filter(|at| *at > now).min()
    }

    /// The upgrades that have not ended, but for one.
    pub(crate) fn other_upgrades(&self, than: &CommandId) -> Vec<CommandId> {
        self.open.iter().filter(|it| it.upgrade && &it.id != than).map(|it| it.id.clone()).collect()
    }

    /// Its process has the order. Whether that is news: a command that is being stopped stays so.
    pub(crate) fn running(&mut self, id: &CommandId) -> bool {
        let found = self.open.iter_mut().find(|it| &it.id == id && it.stage == Stage::Starting);
        found.map(|it| it.stage = Stage::Running).is_some()
    }

    /// The backend, or a person, no longer wants it.
    pub(crate) fn cancel(&mut self, id: &CommandId) -> Cancel {
        let Some(at) = self.open.iter().position(|it| &it.id == id) else { return Cancel::Nothing };
        match self.open[at].stage {
            Stage::Queued => {
                self.open.remove(at);
                Cancel::End
            }
            Stage::Starting | Stage::Running => {
                self.open[at].stage = Stage::Stopping;
                Cancel::Stop
            }
            Stage::Stopping => Cancel::Nothing,
        }
    }

    /// It waits for its turn again, in its old place.
    pub(crate) fn requeued(&mut self, id: &CommandId) {
        self.open.iter_mut().filter(|it| &it.id == id).for_each(|it| it.stage = Stage::Queued);
    }

    /// It has ended.
    pub(crate) fn ended(&mut self, id: &CommandId) {
        self.open.retain(|it| &it.id != id);
    }

    /// None is started any more but this one, or all may be again.
    pub(crate) fn wait_for(&mut self, but: Option<String>) {
        self.waits_for = but;
    }

    /// The service stops: nothing is started any more. Answers those whose processes are to be asked to end.
    pub(crate) fn drain(&mut self) -> Vec<CommandId> {
        self.draining = true;
        let mut active = Vec::new();
        for it in self.open.iter_mut().filter(|it| it.stage != Stage::Queued) {
            it.stage = Stage::Stopping;
            active.push(it.id.clone());
        }
        active
    }

    /// Whether the service stops.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether a process is there, or about to be.
    pub(crate) fn any_active(&self) -> bool {
        self.open.iter().any(|it| it.stage != Stage::Queued)
    }

    /// Those exports that have a process, or are about to.
    pub(crate) fn active_exports(&self) -> Vec<CommandId> {
        let active = self.open.iter().filter(|it| it.export && it.stage != Stage::Queued);
        active.map(|it| it.id.clone()).collect()
    }

    /// Every open command and where it is, in order of arrival.
    pub(crate) fn stages(&self) -> impl Iterator<Item = (&CommandId, Stage)> {
        self.open.iter().map(|it| (&it.id, it.stage))
    }
}

/// Whether it is too late to begin what was to begin until `expires_at`.
pub(crate) fn is_late(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_some_and(|at| at < now)
}

#[cfg(test)]
mod tests {
    use outrider_protocol::action::{AgentConfig, ExportOrder};

    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T08:00:00Z".parse().unwrap()
    }

    fn command(id: &str, order: Order) -> Command {
        let id = CommandId::new(id).unwrap();
        Command { id, order, created_at: now(), expires_at: None, time_limit_ms: None }
    }

    fn export(id: &str) -> Command {
        let order = ExportOrder {
            agent: AgentConfig::default(),
            integrations: Vec::new(),
            reprocess_historical: false,
        };
        command(id, Order::Export(order))
    }

    fn validate(id: &str) -> Command {
        let order =
            serde_json::from_str(r#"{"action":"validate-config","integration":{"name":"mock"}}"#).unwrap();
        command(id, order)
    }

    fn started(due: &[Due]) -> Vec<&str> {
        due.iter().map(|it| if let Due::Start(id) = it { id.as_str() } else { panic!("{it:?}") }).collect()
    }

    fn commands(at_once: usize, all: &[Command]) -> Commands {
        let mut commands = Commands::new(at_once);
        all.iter().for_each(|it| commands.add(it, false));
        commands
    }

    #[test]
    fn exports_run_one_at_a_time_in_order_and_others_beside_them() {
        let mut commands = commands(8, &[export("e1"), export("e2"), validate("v1"), export("e3")]);
        assert_eq!(started(&commands.due(now())), ["e1", "v1"]);
        assert_eq!(started(&commands.due(now())), Vec::<&str>::new());
        commands.ended(&CommandId::new("e1").unwrap());
        assert_eq!(started(&commands.due(now())), ["e2"]);
    }

    #[test]
    fn no_more_run_than_the_limit_says() {
        let mut commands = commands(2, &[validate("v1"), validate("v2"), validate("v3")]);
        assert_eq!(started(&commands.due(now())), ["v1", "v2"]);
        commands.ended(&CommandId::new("v2").unwrap());
        assert_eq!(started(&commands.due(now())), ["v3"]);
    }

    #[test]
    fn a_command_whose_time_has_passed_when_its_turn_comes_expires() {
        let mut late = export("late");
        late.expires_at = Some(now() - jiff::SignedDuration::from_secs(1));
        let mut commands = commands(8, &[late, export("next")]);
        let due = commands.due(now());
        assert_eq!(due[0], Due::Expire(CommandId::new("late").unwrap()));
        assert_eq!(due[1], Due::Start(CommandId::new("next").unwrap()));
        assert_eq!(commands.stages().count(), 1);
    }

    #[test]
    fn a_cancel_ends_what_waits_and_stops_what_runs_once() {
        let mut commands = commands(8, &[export("e1"), export("e2")]);
        commands.due(now());
        let (e1, e2) = (CommandId::new("e1").unwrap(), CommandId::new("e2").unwrap());
        assert_eq!(commands.cancel(&e2), Cancel::End);
        assert_eq!(commands.cancel(&e2), Cancel::Nothing);
        assert_eq!(commands.cancel(&e1), Cancel::Stop);
        assert!(!commands.running(&e1), "a command that is being stopped does not become running");
        assert_eq!(commands.cancel(&e1), Cancel::Nothing);
    }

    #[test]
    fn a_service_that_stops_starts_nothing_and_keeps_what_waits() {
        let mut commands = commands(8, &[export("e1"), export("e2")]);
        commands.due(now());
        let e1 = CommandId::new("e1").unwrap();
        assert_eq!(commands.drain(), std::slice::from_ref(&e1));
        commands.ended(&e1);
        assert!(commands.due(now()).is_empty());
        assert!(!commands.any_active());
        assert_eq!(commands.stages().count(), 1, "e2 waits for the next start");
    }

    #[test]
    fn while_all_wait_for_an_upgrade_only_that_is_started_and_nothing_expires() {
        let mut late = export("late");
        late.expires_at = Some(now() - jiff::SignedDuration::from_secs(1));
        let upgrade = |id| command(id, Order::Upgrade(outrider_protocol::upgrade::UpgradeOrder::default()));
        let mut commands = commands(8, &[late, export("e1"), upgrade("u0"), validate("v1"), upgrade("u1")]);
        commands.wait_for(Some("u1".to_owned()));
        assert_eq!(started(&commands.due(now())), ["u1"]);
        commands.ended(&CommandId::new("u1").unwrap());
        commands.wait_for(None);
        let due = commands.due(now());
        assert_eq!(due[0], Due::Expire(CommandId::new("late").unwrap()));
        assert_eq!(started(&due[1..]), ["e1", "u0", "v1"]);
    }

    #[test]
    fn an_export_that_is_queued_again_keeps_its_place_and_never_expires() {
        let mut old = export("e1");
        old.expires_at = Some(now() - jiff::SignedDuration::from_secs(1));
        let mut commands = Commands::new(8);
        commands.add(&old, true);
        commands.add(&export("e2"), false);
        assert_eq!(started(&commands.due(now())), ["e1"]);
        let e1 = CommandId::new("e1").unwrap();
        assert_eq!(commands.active_exports(), std::slice::from_ref(&e1));
        commands.requeued(&e1);
        assert!(commands.active_exports().is_empty());
        assert_eq!(started(&commands.due(now())), ["e1"], "before the one that came later");
    }
}
