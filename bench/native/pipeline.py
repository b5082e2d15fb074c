"""M/M/1 in SimPy. Arguments: columns file (gaps between arrivals, service times), packets, ns on the wire before."""

import array
import json
import sys
import time

import simpy


def read_columns(path):
    values = array.array("d")
    with open(path, "rb") as file:
        values.frombytes(file.read())
    columns = []
    at = 0
    while at < len(values):
        length = int(values[at])
        columns.append(values[at + 1 : at + 1 + length])
        at += 1 + length
    return columns


def main():
    gaps, services = read_columns(sys.argv[1])
    packets = int(sys.argv[2])
    wire_ns = int(sys.argv[3])
    mask = len(gaps) - 1
    env = simpy.Environment()
    server = simpy.Resource(env, capacity=1)
    spent = 0

    def packet(number):
        nonlocal spent
        if wire_ns > 0:
            yield env.timeout(wire_ns)
        arrived_ns = env.now
        with server.request() as turn:
            yield turn
            yield env.timeout(services[number & mask])
        spent += env.now - arrived_ns

    def source():
        for number in range(packets):
            yield env.timeout(gaps[number & mask])
            env.process(packet(number))

    env.process(source())
    start = time.perf_counter_ns()
    env.run()
    ns = (time.perf_counter_ns() - start) / packets
    print(json.dumps({"ns": ns, "result": int(spent)}))


main()
