"""Resource-aware: build while resources last; the report says who was left out and what is short."""

import ray

import red_tui as red


class Client(red.FederatedNode):
    pass


group = ray.util.placement_group([{"CPU": 0.1}, {"CPU": 0.5}, {"CPU": 1.5}, {"CPU": 0.5}])
ray.get(group.ready(), timeout=60)
config = red.FederationConfig(federation_id="aware")
with red.StarFederatedLearningSchema(Client, ["train"] * 3, config, resources=group) as fed:
    report = fed.build_within(fed.nodes, available={"CPU": 1})  # stops at the first that does not fit
    assert report.built == ("client_0",) and list(report.left_out) == ["client_1", "client_2"]
    print(*(f"{node}: {why}" for node, why in report.left_out.items()), sep="\n")
    report = fed.build_within(["client_1", "client_2"], available={"CPU": 2})  # what is left is enough now
    assert report.built == ("client_1", "client_2") and not report.left_out
ray.util.remove_placement_group(group)
