//! The order that an action gets: the backend's, with the integrations that config.json adds.

use std::collections::HashSet;

use outrider_protocol::action::{IntegrationConfig, Order};
use outrider_protocol::ids::IntegrationId;

/// Adds the `extra` integrations of config.json to an export, and the customer where the backend named none. An extra
/// one whose id is taken gets `-2`, `-3` and so on behind it, so that no two share checkpoints.
pub(crate) fn completed(mut order: Order, extra: &[IntegrationConfig], customer: Option<&str>) -> Order {
    let agent = order.agent_mut();
    if agent.customer_id.is_none() {
        agent.customer_id = customer.map(str::to_owned);
    }
    if let Order::Export(export) = &mut order {
        let mut taken: HashSet<_> = export.integrations.iter().map(IntegrationConfig::id).collect();
        for it in extra {
            let id = free_id(&it.id(), &taken);
            taken.insert(id.clone());
            export.integrations.push(IntegrationConfig { id: Some(id), ..it.clone() });
        }
    }
    order
}

fn free_id(wanted: &IntegrationId, taken: &HashSet<IntegrationId>) -> IntegrationId {
    /// Room for the number behind it.
    const LONGEST: usize = outrider_protocol::ids::LONGEST - 20;
    if !taken.contains(wanted) {
        return wanted.clone();
    }
    let base: String = wanted.as_str().chars().take(LONGEST).collect();
    // Among as many numbers as there are taken ids, and one more, one is free.
    let numbered =
        (2..taken.len() + 3).filter_map(|number| IntegrationId::new(format!("{base}-{number}")).ok());
    numbered.into_iter().find(|id| !taken.contains(id)).unwrap_or_else(|| wanted.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(order: &Order) -> Vec<String> {
        let Order::Export(export) = order else { panic!("{order:?}") };
        export.integrations.iter().map(|it| it.id().to_string()).collect()
    }

    #[test]
    fn extra_integrations_join_every_export_under_ids_of_their_own() {
        let order = r#"{"action":"export","integrations":[{"name":"git"},{"name":"git","id":"git-2"}]}"#;
        let extra: Vec<IntegrationConfig> =
            serde_json::from_str(r#"[{"name":"git","config":{"a":1}},{"name":"mock"},{"name":"git"}]"#)
                .unwrap();
        let order = completed(serde_json::from_str(order).unwrap(), &extra, Some("c1"));
        assert_eq!(ids(&order), ["git", "git-2", "git-3", "mock", "git-4"]);
        let Order::Export(export) = order else { panic!() };
        assert_eq!(export.integrations[2].config.get(), r#"{"a":1}"#);
        assert_eq!(export.agent.customer_id.as_deref(), Some("c1"));
    }

    #[test]
    fn the_backends_customer_wins_and_other_actions_get_no_extra_integration() {
        let order =
            r#"{"action":"validate-config","agent":{"customer_id":"theirs"},"integration":{"name":"git"}}"#;
        let extra: Vec<IntegrationConfig> = serde_json::from_str(r#"[{"name":"mock"}]"#).unwrap();
        let Order::ValidateConfig(order) =
            completed(serde_json::from_str(order).unwrap(), &extra, Some("ours"))
        else {
            panic!()
        };
        assert_eq!(order.agent.customer_id.as_deref(), Some("theirs"));
    }
}
