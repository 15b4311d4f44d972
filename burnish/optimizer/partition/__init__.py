"""Cuts a graph over devices: what it costs where, where it can be cut, and how good a plan is.

What there is:
    cluster.py        devices and links, as a file describes them
    classes.py        devices that can take each other's place
    chain.py          a graph as a chain of operators, with what crosses each cut
    run_costs.py      what runs of the chain cost on devices and on groups of them
Plans:
    plans.py          what a plan is
    search.py         whether a pipeline keeps within a time
    frugal.py         of those that do, the one that sends the least
    latency.py        the pipeline through which one run takes the least time
    planner.py        the best pipeline
    combinations.py   replicas, pipelines and groups together
    placement.py      sets of devices, and which devices they are
    equal.py          stages of equal work, to compare with
How good they are:
    bound.py          what no plan can beat, found without the planner
    relaxation.py     work and memory spread like a liquid
    certificate.py    a proof that no pipeline keeps within a time
    remedies.py       what would help
What is written:
    stages.py         the model of each stage
    shards/           the models of ranks that compute a stage together
    wire/             how activations are sent
    given.py          sizes that are asked of inputs, so that masks are not sent
Devices of this machine:
    probes.py         products and streams that show their rates
    segments.py       runs of the chain that stand for all that are like them
    operators.py      kinds of operators; fit.py how far each is from the rates
    host.py           what devices of one machine cost each other
    cluster_text.py   all that as a cluster file
Forecasts:
    lines.py          plans for `optimizer.simulate`
"""
