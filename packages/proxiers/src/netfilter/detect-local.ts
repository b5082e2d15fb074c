/** How kube-proxy is told to tell pods from others, in every mode that has iptables rules: `detectLocalMode`. */
export const DETECT_LOCAL_OPTIONS = {
  detectLocalMode: {
    kind: 'choice',
    default: 'ClusterCIDR',
    choices: ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix', 'none'],
    about: 'how to tell traffic of pods from other traffic; none as with an empty --cluster-cidr',
  },
  bridgeInterface: {
    kind: 'text',
    default: 'cni0',
    wanted: wantedLink,
    about: 'the bridge of detectLocalMode BridgeInterface (detectLocal.bridgeInterface)',
  },
  interfaceNamePrefix: {
    kind: 'text',
    default: 'veth',
    wanted: wantedLink,
    about: 'what pod interfaces begin with, for detectLocalMode InterfaceNamePrefix (detectLocal)',
  },
} as const;

/** As the kernel allows for a name (IFNAMSIZ), and nothing that text would give a meaning. */
function wantedLink(text: string): string {
  return /^[A-Za-z0-9._-]{1,14}$/.test(text)
    ? ''
    : 'wanted 1 to 14 letters, digits, dots, dashes, underscores';
}
