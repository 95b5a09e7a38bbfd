export interface Needles {
  trace: string;
  busyHost: string;
  rareHost: string;
  busyClient: string;
  rareClient: string;
  principal: string;
}

export async function askPeers(_textFile: string, _needles: Needles): Promise<void> {}
