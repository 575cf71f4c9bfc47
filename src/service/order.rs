//! The order that an action gets: the backend's, with the integrations that config.json adds.

use outrider_protocol::action::{IntegrationConfig, Order};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::IntegrationId;
use outrider_protocol::report::Failure;

/// Adds the `extra` integrations of config.json to an export, and the customer where the backend named none. An extra one
/// has an id that no order gives, whatever else is exported with it: no two share checkpoints, in no two orders.
///
/// # Errors
/// When the order has such an id.
pub(crate) fn completed(
    mut order: Order,
    extra: &[IntegrationConfig],
    customer: Option<&str>,
) -> Result<Order, Box<Failure>> {
    let agent = order.agent_mut();
    if agent.customer_id.is_none() {
        agent.customer_id = customer.map(str::to_owned);
    }
    if let Order::Export(export) = &mut order {
        if let Some(id) = export.integrations.iter().map(IntegrationConfig::id).find(IntegrationId::is_extra)
        {
            return Err(Box::new(taken(&id)));
        }
        export.integrations.extend(extra.iter().map(IntegrationConfig::extra));
    }
    Ok(order)
}

fn taken(id: &IntegrationId) -> Failure {
    Failure {
        message: format!(
            "the order exports from an integration with the id {id}: ids that begin with `{}` are those of \
             `extra_integrations` in config.json of the host",
            IntegrationId::EXTRA
        ),
        fault: Fault::Caller,
        retry: Retry::No,
        hint: Some("give the integration another `id`".to_owned()),
        last_lines: Vec::new(),
    }
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
        let extra: Vec<IntegrationConfig> = serde_json::from_str(
            r#"[{"name":"git","config":{"a":1}},{"name":"mock"},{"name":"git","id":"g"}]"#,
        )
        .unwrap();
        let order = completed(serde_json::from_str(order).unwrap(), &extra, Some("c1")).unwrap();
        assert_eq!(ids(&order), ["git", "git-2", "extra-git", "extra-mock", "extra-g"]);
        let Order::Export(export) = order else { panic!() };
        assert_eq!(export.integrations[2].config.get(), r#"{"a":1}"#);
        assert_eq!(export.agent.customer_id.as_deref(), Some("c1"));
    }

    #[test]
    fn the_backends_customer_wins_and_other_actions_get_no_extra_integration() {
        let order =
            r#"{"action":"validate-config","agent":{"customer_id":"theirs"},"integration":{"name":"git"}}"#;
        let extra: Vec<IntegrationConfig> = serde_json::from_str(r#"[{"name":"mock"}]"#).unwrap();
        let order = completed(serde_json::from_str(order).unwrap(), &extra, Some("ours"));
        let Ok(Order::ValidateConfig(order)) = order else { panic!("{order:?}") };
        assert_eq!(order.agent.customer_id.as_deref(), Some("theirs"));
    }

    #[test]
    fn an_extra_integration_has_the_same_id_whatever_it_is_exported_with() {
        let extra: Vec<IntegrationConfig> = serde_json::from_str(r#"[{"name":"mock"}]"#).unwrap();
        for (ordered, expected) in [
            (r#"{"name":"git"}"#, ["git", "extra-mock"]),
            (r#"{"name":"mock"}"#, ["mock", "extra-mock"]),
            (r#"{"name":"mock","id":"mock-2"}"#, ["mock-2", "extra-mock"]),
        ] {
            let order = format!(r#"{{"action":"export","integrations":[{ordered}]}}"#);
            let order = completed(serde_json::from_str(&order).unwrap(), &extra, None).unwrap();
            assert_eq!(ids(&order), expected);
        }
        let order = r#"{"action":"export","integrations":[{"name":"git"},{"name":"git","id":"extra-mock"}]}"#;
        let refused = completed(serde_json::from_str(order).unwrap(), &extra, None).unwrap_err();
        assert!(refused.message.contains("the id extra-mock"), "{refused:?}");
    }
}
